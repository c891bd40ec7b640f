"""A base model in this process, shared with the LLM where it is the same, and seeded sampling."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pluralism_eval.chat_date import DEFAULT
from pluralism_eval.communities import asking
from pluralism_eval.communities.adapters import base_model
from pluralism_eval.communities.engine import Output, Sampling
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.decoding import (
    Greedy,
    Seeded,
    decode,
    lot_of,
    most_rows,
    rows_that_fit,
)
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.hf import HFLLM

log = logging.getLogger(__name__)


class LocalModel:
    """A decoder-only transformers model that writes a batch of seeded messages."""

    def __init__(
        self,
        base: str,
        revision: str,
        llm: HarnessLLM | None = None,
        batch: int | None = None,
        chat_date: str = DEFAULT,
    ) -> None:
        """
        Args:
            base, revision: what transformers loads.
            llm: if it is that same base model, its weights are used and left unchanged.
            batch: rows written at once; None: what the device's memory holds.
            chat_date: what the chat template sees as today's date.
        """
        self._batch, self._day = batch, chat_date
        self.model, self.tokenizer = _load(base_model(base), revision, llm)

    def tokens(self, text: str, chat: bool = False, persona: str = "") -> list[int]:
        """What the model is given; see :func:`~pluralism_eval.communities.asking.encode`."""
        return asking.encode(self.tokenizer, text, chat, persona, self._day)

    def sample(
        self,
        model: Any,
        rows: Sequence[Sequence[int]],
        seeds: Sequence[int],
        sampling: Sampling,
        also: Callable[[Sequence[int]], Mapping[str, Any]] = lambda numbers: {},
    ) -> Iterator[tuple[int, Output]]:
        """One continuation a row of token ids, by ``model`` (bare or with adapters), each as soon as it is there.

        Each text depends on its own row and seed alone, not on what else is in the batch.

        Args:
            also: what else a forward pass over these rows (indices) needs.
        """
        window = int(getattr(self.model.config, "max_position_embeddings", 0) or 0)
        longest = max(len(row) for row in rows)
        if window and longest + sampling.max_tokens > window:
            raise PluralismError(
                f"a message prompt of {longest} tokens and {sampling.max_tokens} new ones exceed the community "
                f"LM's window of {window}; lower message_max_tokens or shorten the query"
            )
        eos = self._eos()
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        drawn = Seeded([seeds[i] for i in order], sampling.temperature or 1.0, sampling.top_p)
        found = decode(
            model,
            [rows[i] for i in order],
            drawn if sampling.temperature else Greedy(),
            max_new=sampling.max_tokens,
            min_new=1,  # as if an empty message were drawn again
            eos=eos,
            rows=self._batch or rows_that_fit(self.model, longest + sampling.max_tokens),
            also=lambda numbers: also([order[n] for n in numbers]),
        )
        for n, new in found:
            i = order[n]
            yield i, self._decode(new, eos, len(rows[i]))

    def chunk(self, n_jobs: int) -> int:
        """How many of them to write in one go."""
        return lot_of(self._batch or most_rows(self.model), n_jobs)

    def next_logits(
        self, model: Any, rows: Sequence[Sequence[int]], more: Mapping[str, Any] | None = None
    ) -> Any:
        """[n_rows, vocabulary] float32 logits of the next token."""
        from pluralism_eval.llm.forward import next_logits

        logits, _ = next_logits(model, rows, use_cache=False, **(more or {}))
        return logits.float()

    def _decode(self, new: list[int], eos: list[int], prompt_tokens: int) -> Output:
        end = next((i for i, token in enumerate(new) if token in eos), None)
        kept = new if end is None else new[:end]
        text = self.tokenizer.decode(kept, skip_special_tokens=True).strip()
        return Output(text, len(kept), end is not None, prompt_tokens)

    def _eos(self) -> list[int]:
        known = self.model.generation_config.eos_token_id
        known = self.tokenizer.eos_token_id if known is None else known
        if known is None:  # texts then end at their limit
            return []
        return list(known) if isinstance(known, (list, tuple)) else [int(known)]


def _load(pretrained: str, revision: str, llm: HarnessLLM | None) -> tuple[Any, Any]:
    if isinstance(llm, HFLLM) and llm.holds(pretrained, revision):
        return llm.inner.model, llm.inner.tokenizer
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.info("Loading the communities' base model %s", pretrained)
    device = llm.inner.device if llm is not None and getattr(llm.inner, "device", None) else None
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    where: Mapping[str, Any] = {"revision": revision, "trust_remote_code": False}
    model = AutoModelForCausalLM.from_pretrained(pretrained, dtype=dtype, **where).to(device).eval()
    return model, AutoTokenizer.from_pretrained(pretrained, **where)
