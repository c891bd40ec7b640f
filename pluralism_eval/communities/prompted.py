"""Communities without training: a persona instruction over any model. Also the control for
"is the fine-tuning needed?"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from pluralism_eval.bounded import check_chat_template
from pluralism_eval.chat_date import DEFAULT, rendering_on
from pluralism_eval.communities.engine import CANARIES, Job, Output, Proof, Sampling
from pluralism_eval.communities.local import LocalModel
from pluralism_eval.errors import PluralismError, raise_all
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
        self._local = LocalModel(base, revision, llm, batch)
        self._base, self._personas, self._chat_date = base, dict(personas), chat_date

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
        dead = {
            n: "changes nothing"
            if proofs[n]["max_abs_difference"] == 0
            else "gives logits that are not finite"
            for n in names
            if not 0 < proofs[n]["max_abs_difference"] < float("inf")
        }
        raise_all("dead community LMs", [f"{n}: its persona {what}" for n, what in dead.items()])
        return proofs

    def _tokens(self, persona: str, prompt: str) -> list[int]:
        tokenizer = self._local.tokenizer
        if tokenizer.chat_template is None:
            return self._local.tokens(f"{persona}\n\n{prompt}" if persona else prompt)
        user = {"role": "user", "content": prompt}
        text = ""
        if persona:
            with suppress(Exception):  # templates raise what they like, such as "no system role"
                text = self._rendered({"role": "system", "content": persona}, user)
        if not persona or persona.strip() not in text:  # refused, or left out without a word
            if persona:
                user["content"] = f"{persona}\n\n{prompt}"
            try:
                text = self._rendered(user)
            except PluralismError:
                raise
            except Exception as error:
                raise PluralismError(
                    f"the chat template of {self._base!r} cannot render one user turn ({_reason(error)}); give the base another "
                    "chat template, or remove it: personas then stand before the prompt"
                ) from error
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _rendered(self, *turns: Mapping[str, str]) -> str:
        check_chat_template(self._local.tokenizer, list(turns))
        with rendering_on(self._chat_date):
            text: str = self._local.tokenizer.apply_chat_template(
                list(turns), tokenize=False, add_generation_prompt=True
            )
        if not text.strip():
            raise ValueError("it renders nothing")
        return text


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
