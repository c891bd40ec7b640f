"""Community LMs as LoRA adapters on one base model: loaded once, mixed in one batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pluralism_eval.communities.adapters import Adapter
from pluralism_eval.communities.engine import CANARIES, Job, Output, Proof, Sampling
from pluralism_eval.communities.local import LocalModel
from pluralism_eval.communities.mixed import MixedAdapters, can_mix
from pluralism_eval.errors import PluralismError, raise_all
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
    ) -> None:
        """
        Args:
            base, revision: what the adapters belong to.
            adapters: name → adapter.
            llm: if it is that same base model, its weights are used and left unchanged.
            batch: messages written at once; None: what the device's memory holds.
        """
        self._local = LocalModel(base, revision, llm, batch)
        self._peft = _attach(self._local.model, adapters)
        names = list(adapters)
        self._mixed = MixedAdapters(self._peft, names) if can_mix(self._peft, names) else None
        if self._mixed is None:
            log.warning(
                "More than LoRA of linear layers: PEFT computes the adapters of a batch one by one, more slowly"
            )

    def chunk(self, n_jobs: int) -> int:
        return self._local.chunk(n_jobs)

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        rows = [self._local.tokens(job.prompt) for job in jobs]
        seeds, names = [job.seed for job in jobs], [job.community for job in jobs]
        with self._adapters() as (model, choose):
            for i, output in self._local.sample(
                model, rows, seeds, sampling, lambda numbers: choose([names[i] for i in numbers])
            ):
                yield jobs[i], output

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """Next-token logits with the adapter against those without, on the canaries."""
        rows = [self._local.tokens(text) for text in CANARIES]
        bare = self._local.next_logits(self._peft, rows)
        proofs: dict[str, Proof] = {}
        problems = []
        for name in names:
            with self._adapters() as (model, choose):
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
    def _adapters(self) -> Iterator[tuple[Any, Callable[[Sequence[str]], Mapping[str, Any]]]]:
        """(model, what a forward pass needs so that each of its rows has the named adapter).

        Adapters act only inside; outside the shared weights are the bare base model's.
        """
        if self._mixed is not None:
            with self._mixed.acting():
                yield self._local.model, self._mixed.choose
            return
        self._peft.base_model.enable_adapter_layers()
        try:
            yield self._peft, lambda names: {"adapter_names": names}
        finally:
            self._peft.base_model.disable_adapter_layers()


def _attach(model: Any, adapters: Mapping[str, Adapter]) -> Any:
    """The PEFT model over ``model`` with these adapters; one PEFT model per base, ever."""
    from peft import PeftModel

    peft = getattr(model, "_pluralism_peft", None)
    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    for name, adapter in adapters.items():
        try:
            if peft is None:
                peft = PeftModel.from_pretrained(model, str(adapter.folder), adapter_name=name)
            elif name in peft.peft_config:
                if model._pluralism_hashes[name] == adapter.identity:
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
            {**getattr(model, "_pluralism_hashes", {}), name: adapter.identity},
        )
    assert peft is not None
    object.__setattr__(
        model, "_pluralism_peft", peft
    )  # not a submodule: state_dict stays as it was
    peft.base_model.disable_adapter_layers()
    for (
        weight,
        flag,
    ) in flags:  # torch multiplies in another order where it is off: other last digits
        weight.requires_grad_(flag)
    peft.eval()
    return peft
