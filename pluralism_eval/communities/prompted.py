"""Communities without training: a persona instruction over any model. Also the control for
"is the fine-tuning needed?"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pluralism_eval.chat_date import DEFAULT
from pluralism_eval.communities import asking
from pluralism_eval.communities.engine import CANARIES, Job, Output, Proof, Sampling
from pluralism_eval.communities.local import LocalModel
from pluralism_eval.errors import raise_all
from pluralism_eval.llm.harness import HarnessLLM


class PromptedEngine:
    """Writes messages with the bare base model, the persona as its system instruction.

    Where its chat template takes no system turn, or drops it, the persona opens the user's turn.
    """

    def __init__(
        self,
        base: str,
        personas: Mapping[str, str],
        llm: HarnessLLM | None = None,
        revision: str = "main",
        batch: int | None = None,
        chat_date: str = DEFAULT,
    ) -> None:
        """
        Args:
            base, revision: a transformers model; chat template used where it has one.
            personas: name → instruction.
            llm: shares its weights if it is that model.
            batch: messages written at once; None: what the device's memory holds.
            chat_date: what the chat template sees as today's date.
        """
        self._local = LocalModel(base, revision, llm, batch, chat_date)
        self._personas = dict(personas)

    def chunk(self, n_jobs: int) -> int:
        return self._local.chunk(n_jobs)

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        rows = [
            self._local.tokens(job.prompt, job.chat, self._personas[job.community]) for job in jobs
        ]
        seeds = [job.seed for job in jobs]
        for i, output in self._local.sample(self._local.model, rows, seeds, sampling):
            yield jobs[i], output

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """Next-token logits with the persona against those with none, on the canaries."""
        model = self._local.model
        chat = asking.has_template(self._local.tokenizer)

        def logits(persona: str) -> Any:
            rows = [self._local.tokens(text, chat, persona) for text in CANARIES]
            return self._local.next_logits(model, rows)

        bare = logits("")
        proofs: dict[str, Proof] = {}
        for name in names:
            difference = float((logits(self._personas[name]) - bare).abs().max())
            proofs[name] = {"kind": "logits", "max_abs_difference": difference}
        dead = {
            n: "changes nothing"
            if proofs[n]["max_abs_difference"] == 0
            else "gives logits that are not finite"
            for n in names
            if not 0 < proofs[n]["max_abs_difference"] < float("inf")
        }
        raise_all("dead community LMs", [f"{n}: its persona {what}" for n, what in dead.items()])
        return proofs
