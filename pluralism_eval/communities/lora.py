"""Community LMs as LoRA adapters on one base model: loaded once, mixed in one batch."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pluralism_eval.chat_date import DEFAULT
from pluralism_eval.communities.adapters import Adapter
from pluralism_eval.communities.attached import Attached, attach, changes_the_base
from pluralism_eval.communities.engine import CANARIES, Job, Output, Proof, Sampling
from pluralism_eval.communities.local import LocalModel
from pluralism_eval.communities.mixed import MixedAdapters, layers_by_row
from pluralism_eval.errors import raise_all
from pluralism_eval.llm.decoding import can_decode
from pluralism_eval.llm.harness import HarnessLLM

log = logging.getLogger(__name__)


class LoraEngine:
    """Writes messages with any number of adapters on one base model (PEFT)."""

    def __init__(
        self,
        base: str,
        adapters: Mapping[str, Adapter],
        llm: HarnessLLM | None = None,
        revision: str = "main",
        batch: int | None = None,
        chat_date: str = DEFAULT,
    ) -> None:
        """
        Args:
            base, revision: what the adapters belong to.
            adapters: name → adapter.
            llm: if it is that same base model, its weights are used and left unchanged.
            batch: messages written at once; None: what the device's memory holds.
            chat_date: what the chat template sees as today's date.

        Raises:
            PluralismError: an adapter does not fit, or changes the base that others share.
        """
        self._local = LocalModel(base, revision, llm, batch, chat_date)
        self._canaries = [self._local.tokens(text) for text in CANARIES]
        model = self._local.model
        with layers_by_row(model, len(CANARIES)) as mixable:
            before = _plain_logits(model, self._canaries)
        if not can_decode(model):  # its texts are written one by one
            mixable.clear()
        mixed: dict[str, Mapping[str, Any]] = {}
        self._alone: dict[str, Any] = {}
        unchecked: list[Attached] = []
        for name, adapter in adapters.items():
            attached = attach(model, name, adapter.folder)
            unchecked.append(attached)
            if attached.fields or len(mixed) + len(self._alone) == len(adapters) - 1:
                self._check_base(unchecked, before)
                unchecked = []
            if attached.layers is not None and mixable.issuperset(attached.layers):
                mixed[name] = attached.layers
            else:
                self._alone[name] = attached.model
                _say_alone(attached)
        self._mixed = MixedAdapters(model, mixed)

    @property
    def model(self) -> Any:
        """The bare base model."""
        return self._local.model

    @property
    def tokenizer(self) -> Any:
        return self._local.tokenizer

    def chunk(self, n_jobs: int) -> int:
        return self._local.chunk(n_jobs)

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        together: dict[str, list[Job]] = defaultdict(list)
        for job in jobs:
            together[job.community if job.community in self._alone else ""].append(job)
        for own in together.values():
            yield from self._generate(own, sampling)

    def generate_bare(
        self, jobs: Sequence[Job], sampling: Sampling
    ) -> Iterator[tuple[Job, Output]]:
        """What the base model without any adapter writes."""
        rows = [self._local.tokens(job.prompt, job.chat) for job in jobs]
        seeds = [job.seed for job in jobs]
        for i, output in self._local.sample(self._local.model, rows, seeds, sampling):
            yield jobs[i], output

    def _generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        rows = [self._local.tokens(job.prompt, job.chat) for job in jobs]
        seeds, names = [job.seed for job in jobs], [job.community for job in jobs]
        with self._acting(names[0]) as (model, choose):
            for i, output in self._local.sample(
                model, rows, seeds, sampling, lambda numbers: choose([names[i] for i in numbers])
            ):
                yield jobs[i], output

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """Next-token logits with the adapter against those without, on the canaries."""
        rows = self._canaries
        bare = self._local.next_logits(self._local.model, rows)
        proofs: dict[str, Proof] = {}
        problems = []
        for name in names:
            with self._acting(name) as (model, choose):
                own = self._local.next_logits(model, rows, choose([name] * len(rows)))
            difference = float((own - bare).abs().max())
            proofs[name] = {"kind": "logits", "max_abs_difference": difference}
            if not own.isfinite().all():
                problems.append(f"{name}: its logits are not finite (NaN or infinite)")
            elif difference == 0:
                problems.append(
                    f"{name}: its logits equal the base model's on all {len(rows)} canary prompts, so the adapter does nothing"
                )
        raise_all("dead community LMs", problems)
        return proofs

    @contextmanager
    def _acting(
        self, name: str
    ) -> Iterator[tuple[Any, Callable[[Sequence[str]], Mapping[str, Any]]]]:
        """(model, what a forward pass needs so that each of its rows has the named adapter).

        Inside, rows may have any of the adapters that are mixed, where ``name`` is one, else that one alone.
        """
        if name in self._alone:
            yield self._alone[name], lambda names: {}
            return
        with self._mixed.acting():
            yield self._local.model, self._mixed.choose

    def _check_base(self, attached: Sequence[Attached], before: Any) -> None:
        """The base's own logits are what they were before, to the last bit.

        On devices where two equal passes differ, up to that.

        Args:
            attached: since the last check; the last one is more than plain LoRA, or none is.
        """
        model, rows = self._local.model, self._canaries
        found = _plain_logits(model, rows)
        change = _difference(found, before)
        if not change or change <= 4 * _difference(_plain_logits(model, rows), found):
            return
        guilty = attached[-1:] if attached[-1].fields else attached
        names = "', '".join(one.name for one in guilty)
        raise changes_the_base(names, guilty[-1].fields, f"its own logits by {change:.2g}")


def _plain_logits(model: Any, rows: Sequence[Sequence[int]]) -> Any:
    """[n_rows, vocabulary] of the next token, from the weights themselves: :mod:`pluralism_eval.llm.linear` keeps copies."""
    longest = max(map(len, rows))
    ids = [[*row, *[0] * (longest - len(row))] for row in rows]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor(ids, device=model.device), use_cache=False).logits
    return torch.stack([own[len(row) - 1].float() for own, row in zip(logits, rows, strict=True)])


def _difference(one: Any, other: Any) -> float:
    """The largest; numbers that are no number in both are equal."""
    return float((one - other).abs().masked_fill(one.isnan() & other.isnan(), 0).nan_to_num(nan=float("inf")).max())  # fmt: skip


def _say_alone(attached: Attached) -> None:
    reason = ", ".join(attached.fields) or "layers or a base model that PEFT alone computes"
    log.warning(
        "%s: more than plain LoRA of linear layers (%s): PEFT computes it in batches of its own, more slowly, on the base's "
        "weights and %.1f MB more",
        attached.name,
        reason,
        attached.nbytes / 1e6,
    )
