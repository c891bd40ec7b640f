"""Communities without training: a persona instruction over any model. Also the control for
"is the fine-tuning needed?"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pluralism_eval.chat_date import DEFAULT, rendering_on
from pluralism_eval.communities.engine import CANARIES, Job, Output, Proof, Sampling
from pluralism_eval.communities.local import LocalModel
from pluralism_eval.errors import raise_all
from pluralism_eval.llm.harness import HarnessLLM


class PromptedEngine:
    """Writes messages with the bare base model, the persona as its system instruction."""

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
        self._local = LocalModel(base, revision, llm, batch)
        self._personas, self._chat_date = dict(personas), chat_date

    def chunk(self, n_jobs: int) -> int:
        return self._local.chunk(n_jobs)

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        rows = [self._tokens(self._personas[job.community], job.prompt) for job in jobs]
        seeds = [job.seed for job in jobs]
        for i, output in self._local.sample(self._local.model, rows, seeds, sampling):
            yield jobs[i], output

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """Next-token logits with the persona against those with none, on the canaries."""
        model = self._local.model
        bare = self._local.next_logits(model, [self._tokens("", text) for text in CANARIES])
        proofs: dict[str, Proof] = {}
        for name in names:
            rows = [self._tokens(self._personas[name], text) for text in CANARIES]
            difference = float((self._local.next_logits(model, rows) - bare).abs().max())
            proofs[name] = {"kind": "logits", "max_abs_difference": difference}
        raise_all(
            "dead community LMs",
            [
                f"{n}: its persona changes nothing"
                for n in names
                if not proofs[n]["max_abs_difference"] > 0
            ],
        )
        return proofs

    def _tokens(self, persona: str, prompt: str) -> list[int]:
        tokenizer = self._local.tokenizer
        if tokenizer.chat_template is None:
            return self._local.tokens(f"{persona}\n\n{prompt}" if persona else prompt)
        turns = [{"role": "system", "content": persona}] if persona else []
        with rendering_on(self._chat_date):
            text = tokenizer.apply_chat_template(
                [*turns, {"role": "user", "content": prompt}],
                tokenize=False,
                add_generation_prompt=True,
            )
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
