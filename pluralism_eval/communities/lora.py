"""Community LMs as LoRA adapters on one base model: loaded once, mixed in one batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from pluralism_eval.communities.adapters import Adapter, base_model
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HFLLM, HarnessLLM

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """How messages are drawn (appendix B: temperature 1, at most 512 new tokens)."""

    max_tokens: int
    top_p: float = 1.0
    temperature: float = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """One message to write."""

    key: str
    adapter: str
    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Output:
    text: str
    n_tokens: int
    stopped: bool


class LoraEngine:
    """Writes messages with any number of adapters on one base model."""

    def __init__(
        self, base: str, adapters: Mapping[str, Adapter], llm: HarnessLLM | None = None
    ) -> None:
        """
        Args:
            base: what the adapters belong to.
            adapters: name → adapter.
            llm: if it is that same base model, its weights are used and left unchanged.
        """
        self._model, self._tokenizer = _base(base_model(base), llm)
        self._peft = _attach(self._model, adapters)

    def generate(
        self, jobs: Sequence[Job], sampling: Sampling, batch: int
    ) -> Iterator[list[tuple[Job, Output]]]:
        """Yields each finished batch, longest prompts first. Each text depends on its job alone."""
        tokens = {job.key: self._tokenizer(job.prompt)["input_ids"] for job in jobs}
        order = sorted(jobs, key=lambda job: -len(tokens[job.key]))
        with tqdm(total=len(jobs), desc="messages", unit="message") as bar, self._adapters_on():
            for start in range(0, len(order), batch):
                part = order[start : start + batch]
                yield list(
                    zip(
                        part,
                        self._batch(part, [tokens[j.key] for j in part], sampling),
                        strict=True,
                    )
                )
                bar.update(len(part))

    def _batch(
        self, jobs: Sequence[Job], rows: Sequence[Sequence[int]], sampling: Sampling
    ) -> list[Output]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, TopPLogitsWarper

        window = int(getattr(self._model.config, "max_position_embeddings", 0) or 0)
        longest = max(len(row) for row in rows)
        if window and longest + sampling.max_tokens > window:
            raise PluralismError(
                f"a message prompt of {longest} tokens and {sampling.max_tokens} new ones exceed the community "
                f"LM's window of {window}; lower message_max_tokens or shorten the query"
            )
        eos = self._eos()
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else eos[0]
        device = self._model.device
        ids = torch.tensor(
            [[pad] * (longest - len(row)) + list(row) for row in rows], device=device
        )
        mask = torch.tensor(
            [[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device
        )
        processors = LogitsProcessorList(
            [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
        )
        processors.append(_SeededSampler([job.seed for job in jobs], device, sampling.temperature))
        with torch.inference_mode():
            output = self._peft.generate(
                input_ids=ids,
                attention_mask=mask,
                adapter_names=[job.adapter for job in jobs],
                logits_processor=processors,
                generation_config=GenerationConfig(
                    max_new_tokens=sampling.max_tokens,
                    min_new_tokens=1,  # as if an empty message were drawn again
                    do_sample=False,
                    pad_token_id=pad,
                    eos_token_id=eos,
                ),
            )
        return [self._decode(row, eos) for row in output[:, longest:].tolist()]

    def _decode(self, new: list[int], eos: list[int]) -> Output:
        end = next((i for i, token in enumerate(new) if token in eos), None)
        kept = new if end is None else new[:end]
        return Output(
            self._tokenizer.decode(kept, skip_special_tokens=True).strip(),
            len(kept),
            end is not None,
        )

    def _eos(self) -> list[int]:
        known = self._model.generation_config.eos_token_id or self._tokenizer.eos_token_id
        return list(known) if isinstance(known, (list, tuple)) else [int(known)]

    @contextmanager
    def _adapters_on(self) -> Iterator[None]:
        """Adapters act only inside; outside the shared weights are the bare base model's."""
        self._peft.base_model.enable_adapter_layers()
        try:
            yield
        finally:
            self._peft.base_model.disable_adapter_layers()


class _SeededSampler:
    """Exact sampling by the Gumbel-max trick: argmax(logits / T + Gumbel noise).

    Every row has its own generator, so that a message does not depend on what else is in the
    batch, on the batch size or on the rank (up to floating-point ties).
    """

    def __init__(self, seeds: Sequence[int], device: Any, temperature: float) -> None:
        import torch

        self._generators = [torch.Generator(device=device).manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        noise = torch.empty(scores.shape, dtype=torch.float32, device=scores.device)
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self._temperature - noise.log()


def _base(pretrained: str, llm: HarnessLLM | None) -> tuple[Any, Any]:
    if isinstance(llm, HFLLM) and _is_plain(llm.inner, pretrained):
        return llm.inner.model, llm.inner.tokenizer
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.info("Loading the communities' base model %s", pretrained)
    device = llm.inner.device if llm is not None and getattr(llm.inner, "device", None) else None
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.float32 if torch.device(device).type == "cpu" else torch.bfloat16
    model = AutoModelForCausalLM.from_pretrained(pretrained, dtype=dtype).to(device).eval()
    return model, AutoTokenizer.from_pretrained(pretrained)


def _is_plain(inner: Any, pretrained: str) -> bool:
    return (
        inner.pretrained == pretrained
        and not getattr(inner, "peft", None)
        and not getattr(inner, "delta", None)
    )


def _attach(model: Any, adapters: Mapping[str, Adapter]) -> Any:
    """The PEFT model over ``model`` with these adapters; one PEFT model per base, ever."""
    from peft import PeftModel

    peft = getattr(model, "_pluralism_peft", None)
    for name, adapter in adapters.items():
        try:
            if peft is None:
                peft = PeftModel.from_pretrained(model, str(adapter.folder), adapter_name=name)
            elif name in peft.peft_config:
                if model._pluralism_hashes[name] == adapter.sha256:
                    continue
                peft.delete_adapter(name)
                peft.load_adapter(str(adapter.folder), adapter_name=name)
            else:
                peft.load_adapter(str(adapter.folder), adapter_name=name)
        except (RuntimeError, ValueError, KeyError) as error:
            raise PluralismError(
                f"adapter {name!r} does not fit the base model: {str(error).splitlines()[0]}"
            ) from error
        object.__setattr__(
            model,
            "_pluralism_hashes",
            {**getattr(model, "_pluralism_hashes", {}), name: adapter.sha256},
        )
    assert peft is not None
    object.__setattr__(
        model, "_pluralism_peft", peft
    )  # not a submodule: state_dict stays as it was
    peft.base_model.disable_adapter_layers()
    peft.eval()
    return peft
