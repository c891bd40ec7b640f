"""A transformers model inside lm-eval's ``HFLM``: its options by one forward pass a prompt, its texts in batches of our own."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pluralism_eval import progress, ranks, utilisation
from pluralism_eval.cache import digest
from pluralism_eval.distribution import logsumexp
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.batches import equal_settings, fixed_size, generation_batches
from pluralism_eval.llm.decoding import (
    Greedy,
    can_decode,
    decode,
    is_plain,
    lot_of,
    rows_that_fit,
    tokens_of_a_pass,
)
from pluralism_eval.llm.generation import normalised
from pluralism_eval.llm.harness import HarnessLLM, as_texts
from pluralism_eval.schema import OptionScores, TextScore

if TYPE_CHECKING:
    from pluralism_eval.llm.continuations import Row
    from pluralism_eval.llm.forward import Opening

log = logging.getLogger(__name__)


class HFLLM(HarnessLLM):
    """A decoder-only transformers model inside lm-eval's ``HFLM``."""

    def __init__(self, inner: Any, name: str, batch_tokens: int | None = None) -> None:
        super().__init__(inner, name, batch_tokens)
        self._can_score = True
        self._by_text: dict[str, list[int]] | None = None

    def holds(self, pretrained: str, revision: str = "main") -> bool:
        """True where its weights are those, as they are: no adapter, no difference added."""
        inner = self.inner
        return (
            inner.pretrained == pretrained
            and (getattr(inner, "revision", None) or "main") == revision
            and not getattr(inner, "peft", None)
            and not getattr(inner, "delta", None)
        )

    def generate(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
        """See the base class; samples are seeded a batch, by torch's seed and the batch.

        They do not depend on what was drawn before, in this process or another.
        """
        if not prompts or not normalised(settings, 1)["do_sample"]:
            return super().generate(prompts, settings)
        import torch

        requests = self._instances(prompts, settings)
        found: dict[int, str] = {}
        with fixed_size(self.inner) as size:
            batches = generation_batches(self.inner, requests, size)

            def sample(batch: list[int]) -> list[str]:
                key = [torch.initial_seed(), batch, [prompts[i] for i in batch]]
                device = self.inner.device
                with torch.random.fork_rng([device] if device.type == "cuda" else []):
                    torch.manual_seed(int(digest(key)[:15], 16))
                    drawn = self.inner.generate_until([requests[i] for i in batch])
                    return as_texts(self.name, drawn, len(batch))

            for batch, part in zip(batches, ranks.by_turns(batches, sample), strict=True):
                found |= dict(zip(batch, part, strict=True))
        texts = [found[i] for i in range(len(prompts))]
        self.count(prompts, texts)
        return texts

    def generate_until(self, requests: Sequence[Any], bare: bool = False) -> list[str]:
        """See the base class; greedy texts in batches of our own, as many rows as the device's memory holds.

        The others as ``HFLM`` draws them: by ``batch_size``, from one stream of random numbers.
        """
        if bare:
            return super().generate_until(requests)
        found: dict[int, str] = {}
        for group in equal_settings(requests):
            texts = self._greedy([requests[i].args[0] for i in group], requests[group[0]].args[1])
            if texts is not None:
                found |= dict(zip(group, texts, strict=True))
        rest = [i for i in range(len(requests)) if i not in found]
        if rest:
            drawn = super().generate_until([requests[i] for i in rest])
            found |= dict(zip(rest, drawn, strict=True))
        return [found[i] for i in range(len(requests))]

    def _greedy(self, prompts: Sequence[str], settings: Mapping[str, Any]) -> list[str] | None:
        """The texts of ``HFLM.generate_until``; None where they need more than greedy decoding."""
        from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

        inner = self.inner
        given = normalize_gen_kwargs(dict(settings), inner.max_gen_toks)
        until = handle_stop_sequences(given.pop("until", None), eos=None)
        max_new = int(given.pop("max_gen_toks"))
        plain = all(
            given.get(k) in (None, v) for k, v in {"do_sample": False, "temperature": 0.0}.items()
        )
        if not plain or set(given) - {"do_sample", "temperature"}:
            return None
        if (
            inner.think_end_token is not None
            or not can_decode(inner.model)
            or not is_plain(inner.model.generation_config)
        ):
            log.warning(
                "%s has states, thoughts or generation settings of its own: lm-eval writes its %d greedy texts, by --batch_size",
                self.name,
                len(prompts),
            )
            return None
        if max_new >= self.max_length:
            raise PluralismError(
                f"max_gen_toks={max_new} leaves no room for a prompt in the window of {self.name}, {self.max_length} tokens; "
                "lower it"
            )
        unique = list(dict.fromkeys(prompts))
        rows = [row[-(self.max_length - max_new) :] for row in self.encode(unique)]
        stops = [stop for stop in until if stop]
        back = 2 + max(
            (len(inner.tok_encode(s, add_special_tokens=False)) for s in stops), default=0
        )
        ends = inner.model.generation_config.eos_token_id
        eos = [*{*(ends if isinstance(ends, list) else [ends]), inner.eot_token_id} - {None}]

        def ended(new: list[int]) -> bool:
            tail = inner.tok_decode(new[-back:], skip_special_tokens=False)
            return any(stop in tail for stop in stops)

        order = sorted(range(len(unique)), key=lambda i: (-len(rows[i]), unique[i]))
        needed = max(map(len, rows)) + max_new
        held = min(ranks.everyones(rows_that_fit(inner.model, needed)))
        size = lot_of(held, len(order))
        lots = [order[start : start + size] for start in range(0, len(order), size)]
        found: dict[str, str] = {}
        hidden = None if len(unique) > 1 and ranks.is_first() else True
        with progress.bar(len(unique), "texts", "text", hidden) as bar:

            def write(lot: list[int]) -> dict[str, str]:
                written = {}
                for i, new in decode(
                    inner.model, [rows[i] for i in lot], Greedy(),
                    max_new=max_new, eos=eos, rows=held, ended=ended if stops else None, opening=opening,
                ):  # fmt: skip
                    text = inner.tok_decode(new)
                    for stop in stops:
                        text = text.split(stop)[0]
                    written[unique[lot[i]]] = text
                    bar.update(1)
                return written

            with utilisation.phase_unless_within("responses"):
                opening = self._opening(rows)
                for written in ranks.by_turns(lots, write):
                    found |= written
            bar.update(len(unique) - bar.n)
        texts = as_texts(self.name, [found[p] for p in prompts], len(prompts))
        self.count(prompts, texts)
        return texts

    def option_logprobs(
        self,
        prompts: Sequence[str],
        letters: Sequence[Sequence[str]],
        top_tokens: int | None = None,
        readout: str = "letters",
    ) -> list[OptionScores]:
        """See the base class; one row of a forward pass per distinct prompt, what all begin with computed once.

        With ``top_tokens``, the authors' rule instead: among that many likeliest tokens the first
        that matches the letter, and equal scores for all options if none does.
        """
        from pluralism_eval.llm.forward import passes

        self.check_no_thought(prompts)
        wanted = list(dict.fromkeys((p, tuple(o)) for p, o in zip(prompts, letters, strict=True)))
        tokens = self.encode([prompt for prompt, _ in wanted])
        self.usage.add(len(wanted), sum(map(len, tokens)))
        most = self.batch_tokens or tokens_of_a_pass(self.inner.device)
        found: dict[int, OptionScores] = {}
        hidden = None if len(wanted) > 1 and ranks.is_first() else True
        with progress.bar(len(wanted), "options", "prompt", hidden) as bar:

            def logprobs(batch: list[int]) -> Any:
                return self._next_token_logprobs([tokens[i] for i in batch], opening)

            def scores(batch: list[int], logprobs: Any) -> list[OptionScores]:
                rows = self._numbers(logprobs)
                bar.update(len(batch))
                return [
                    self._read(row, wanted[i][1], top_tokens)
                    for i, row in zip(batch, rows, strict=True)
                ]

            with utilisation.phase_unless_within("options"):
                opening = self._opening(tokens)
                begun = len(opening or ())
                batches = passes([len(row) - begun for row in tokens], most)
                parts = ranks.by_turns(batches, logprobs, read=scores)
            for batch, part in zip(batches, parts, strict=True):
                found |= dict(zip(batch, part, strict=True))
            bar.update(len(wanted) - bar.n)
        index = {pair: i for i, pair in enumerate(wanted)}
        return [found[index[p, tuple(o)]] for p, o in zip(prompts, letters, strict=True)]

    def text_logprobs(
        self, prompts: Sequence[str], texts: Sequence[Sequence[str]]
    ) -> list[list[TextScore]]:
        """See the base class; one row of a forward pass per distinct prompt, with all of its texts."""
        from pluralism_eval.llm.continuations import row_length
        from pluralism_eval.llm.forward import passes

        self.check_no_thought(prompts)
        wanted = list(dict.fromkeys((p, tuple(t)) for p, t in zip(prompts, texts, strict=True)))
        rows = self._continuation_rows(wanted)
        self.usage.add(len(wanted), sum(map(row_length, rows)))
        most = self.batch_tokens or tokens_of_a_pass(self.inner.device)
        found: dict[int, list[TextScore]] = {}
        hidden = None if len(wanted) > 1 and ranks.is_first() else True
        with progress.bar(len(wanted), "options", "prompt", hidden) as bar:

            def scores(batch: list[int]) -> list[list[TextScore]]:
                scored = self._scores([rows[i] for i in batch], opening)
                self._check_numbers([score.logprob for own in scored for score in own])
                bar.update(len(batch))
                return scored

            with utilisation.phase_unless_within("options"):
                opening = self._opening([list(prompt) for prompt, _ in rows])
                begun = len(opening or ())
                batches = passes([row_length(row, begun) for row in rows], most)
                for batch, part in zip(batches, ranks.by_turns(batches, scores), strict=True):
                    found |= dict(zip(batch, part, strict=True))
            bar.update(len(wanted) - bar.n)
        index = {pair: i for i, pair in enumerate(wanted)}
        return [found[index[p, tuple(t)]] for p, t in zip(prompts, texts, strict=True)]

    def _scores(self, rows: Sequence[Row], opening: Opening | None) -> list[list[TextScore]]:
        from pluralism_eval.llm.continuations import score_continuations

        return score_continuations(self.inner.model, rows, opening)

    def _continuation_rows(self, wanted: Sequence[tuple[str, Sequence[str]]]) -> list[Row]:
        """Token ids of every prompt and of its texts, as lm-eval parts them: what follows the prompt's own tokens."""
        prompts = [prompt for prompt, _ in wanted]
        whole = iter(self.encode([p + text for p, own in wanted for text in own]))
        rows: list[Row] = []
        for (_, own), begin in zip(wanted, self.encode(prompts), strict=True):
            rows.append((begin, [next(whole)[len(begin) :] for _ in own]))
        empty = [own for (_, own), (_, ends) in zip(wanted, rows, strict=True) if not all(ends)]
        if empty:
            raise PluralismError(
                f"{self.name}: the tokenizer leaves nothing of one of the options {list(empty[0])}; use another readout"
            )
        return rows

    def _check_numbers(self, values: Sequence[float]) -> None:
        broken = sum(not value <= 0.0 for value in values)
        if broken:
            raise PluralismError(
                f"{self.name} returned NaN or infinite logits for {broken} of {len(values)} options of a batch (a broken "
                "number format? try dtype=float32 or bfloat16)"
            )

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids as ``HFLM.tok_encode`` gives them, in one call: tokenizers then use all cores."""
        from lm_eval.models.utils import has_bos_prefix

        inner, bos = self.inner, self.inner.tokenizer.decode(self.inner.prefix_token_id)
        given = {} if inner.add_bos_token is None else {"add_special_tokens": inner.add_bos_token}
        found: dict[str, list[int]] = {}
        for own in (True, False):  # those that bring their first token along need none
            part = [text for text in dict.fromkeys(prompts) if has_bos_prefix(text, bos) == own]
            if part:
                settings = {**given, "add_special_tokens": False} if own else given
                rows = inner.tokenizer(part, return_attention_mask=False, **settings)["input_ids"]
                found |= dict(zip(part, rows, strict=True))
        return [found[text] for text in prompts]

    def token_ids(self, text: str) -> list[int]:
        """All vocabulary entries that spell ``text``, white space around it aside."""
        if self._by_text is None:
            tokenizer = self.inner.tokenizer
            special = set(tokenizer.all_special_ids)
            self._by_text = {}
            for i, piece in enumerate(tokenizer.batch_decode([[i] for i in range(len(tokenizer))])):
                if i not in special:
                    self._by_text.setdefault(piece.strip(), []).append(i)
        ids = self._by_text.get(text, [])
        if not ids:
            raise PluralismError(
                f"the tokenizer of {self.name} has no single token for option {text!r}; score with readout=harness"
            )
        return ids

    def _opening(self, rows: Sequence[list[int]]) -> Opening | None:
        from pluralism_eval.llm.forward import Opening

        return Opening.of(self.inner.model, rows)

    def _next_token_logprobs(self, rows: Sequence[Sequence[int]], opening: Opening | None) -> Any:
        """[n_rows, vocabulary], on the model's device."""
        from pluralism_eval.llm.forward import next_logits

        model, begun = self.inner.model, len(opening or ())
        logits, _ = next_logits(model, rows, opening, use_cache=False)
        utilisation.prefill(model, [len(row) - begun for row in rows], len(rows), begun)
        return logits.float().log_softmax(-1)

    def _numbers(self, logprobs: Any) -> np.ndarray:
        """What :meth:`_next_token_logprobs` gave, fetched and checked."""
        rows: np.ndarray = logprobs.cpu().numpy()
        broken = int(np.isnan(rows).any(axis=-1).sum())
        if broken:  # one +inf, or no finite logit at all, makes a row NaN as well
            raise PluralismError(
                f"{self.name} returned NaN or infinite logits for {broken} of {len(rows)} prompts of a batch (a broken "
                "number format? try dtype=float32 or bfloat16)"
            )
        return rows

    def _read(
        self, row: np.ndarray, letters: Sequence[str], top_tokens: int | None
    ) -> OptionScores:
        ids = [self.token_ids(letter) for letter in letters]
        best = int(row.argmax())
        greedy = next((i for i, forms in enumerate(ids) if best in forms), -1)
        if top_tokens is None:
            return OptionScores(
                tuple(float(logsumexp(row[forms].astype(np.float64))) for forms in ids), greedy
            )
        top = np.argsort(-row, kind="stable")[:top_tokens].tolist()
        first = [next((t for t in top if t in forms), None) for forms in ids]
        if all(t is None for t in first):
            return OptionScores((-math.log(len(ids)),) * len(ids), -1, uniform_fallback=True)
        return OptionScores(tuple(-math.inf if t is None else float(row[t]) for t in first), greedy)
