"""Communities behind an OpenAI-compatible server, such as vLLM with ``--enable-lora``: one model
name a community, concurrent requests."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.api.client import Api, Call, Rejected
from pluralism_eval.api.replies import Reply
from pluralism_eval.api.settings import ApiSettings
from pluralism_eval.communities.engine import CANARIES, Job, Output, Proof, Sampling
from pluralism_eval.communities.spread import Said, compare
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.llm import start_token
from pluralism_eval.llm.thoughts import END, without_thought

log = logging.getLogger(__name__)
_PROOF_TOKENS = 24
_TIMES = 3
"""That each canary is asked: a model's spread is seen only in repetitions."""


@dataclass(frozen=True)
class Endpoint:
    """One community on the server."""

    model: str
    """The name it is served under."""
    base: str
    """The name its bare base model is served under; empty for a persona."""
    persona: str = ""
    """A system instruction (chat); empty: plain completions of the message prompt."""


class ServedEngine:
    """Writes messages by requests, under the limits and counts of :class:`pluralism_eval.api.client.Api`."""

    def __init__(
        self,
        base_url: str,
        endpoints: Mapping[str, Endpoint],
        api_key_variable: str = "OPENAI_API_KEY",
        concurrency: int = 16,
        served_as: tuple[str, ...] = (),
    ) -> None:
        """
        Args:
            base_url: e.g. ``http://localhost:8000/v1``.
            endpoints: community → endpoint.
            api_key_variable: environment variable with the key; servers without keys need none.
            concurrency: requests in flight.
            served_as: other names under which the server may say that a community answered.
        """
        self._url, self._endpoints = base_url, dict(endpoints)
        # as the other engines: a community that ends at once says nothing. vLLM and SGLang know it
        self._floor: dict[str, int] = {"min_tokens": 1}
        self._adds: dict[str, bool] = {}
        """Start token → does the server add it to prompts that begin with it?"""
        self.api = Api(
            ApiSettings(
                base_url=base_url.rstrip("/"),
                api_key_variable=api_key_variable,
                concurrency=concurrency,
                timeout=600,
                served_as=served_as,
            )
        )

    def chunk(self, n_jobs: int) -> int:
        return 256

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        """Raises PluralismError for a request that failed for good, after the others came in.

        So it does where no message has a word because the limit ended all of them before, in their thoughts.
        """
        calls = [self._message(job, sampling) for job in jobs]
        cut = 0
        for i, reply in self.api.ask(calls, "messages"):
            output = _output(reply)
            cut += not output.text and reply.choices[0].finish == "length"
            yield jobs[i], output
        if cut:
            said = (
                f"{self._url}: {cut} of {len(jobs)} messages used up message_max_tokens={sampling.max_tokens} before any "
                "word of an answer (a thought?); raise it"
            )
            if cut == len(jobs):
                raise PluralismError(said)
            log.warning("%s", said)

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """Greedy answers of each name against its base's, on the canaries; see :func:`~pluralism_eval.communities.spread.compare`."""
        served = self.api.models()
        missing = [
            f"{name}: model {wanted!r} is not served; {self._url} has {', '.join(served or [])}"
            for name in names
            for wanted in (self._endpoints[name].model, self._endpoints[name].base)
            if served is not None and wanted and wanted not in served
        ]
        raise_all(f"communities on {self._url}", missing)
        proofs: dict[str, Proof] = {}
        problems = []
        asked = {
            name: endpoint for name in names if not (endpoint := self._endpoints[name]).persona
        }
        answers = self._repeated(sorted({m for e in asked.values() for m in (e.model, e.base)}))
        for name in names:
            endpoint = self._endpoints[name]
            if endpoint.persona:
                proofs[name] = {"kind": "persona", "served": endpoint.model}
                continue
            found = compare(answers[endpoint.model], answers[endpoint.base])
            proofs[name] = {"kind": "answers", **found.shown()}
            if not found.alive:
                problems.append(
                    f"{name}: {endpoint.model!r} answers as its base {endpoint.base!r} does on the {len(CANARIES)} "
                    f"canary prompts, each asked {_TIMES} times{found.why}; is the adapter loaded on the server?"
                )
        raise_all("dead community LMs", problems)
        return proofs

    def has_template(self, name: str) -> bool:
        """Whether the server applies a chat template for this community: does it answer a chat at all?"""
        turns = [{"role": "user", "content": CANARIES[0]}]
        body = {"model": self._endpoints[name].model, "messages": turns, "max_tokens": 1}
        try:
            self.api.fresh(Call("chat", body))
        except Rejected:
            return False
        return True

    def _repeated(self, models: Sequence[str]) -> dict[str, list[list[Said]]]:
        """Model → [n_canaries][times] greedy answers, asked anew each time.

        Rounds of all models and canaries in a shuffled order: a server that drifts, or deals its requests out to
        several copies by turns, does so to all of them alike.
        """
        found: dict[str, list[list[Said]]] = {model: [[] for _ in CANARIES] for model in models}
        order = random.Random(0)
        for _ in range(_TIMES):
            calls = [(model, i) for model in models for i in range(len(CANARIES))]
            order.shuffle(calls)
            for model, i in calls:
                found[model][i].append(self._greedy(model, CANARIES[i]))
        return found

    def _greedy(self, model: str, prompt: str) -> Said:
        body = {
            "model": model, "prompt": prompt, "max_tokens": _PROOF_TOKENS, "temperature": 0, "logprobs": 1,
        }  # fmt: skip
        choice = self._fresh(body).choices[0]
        known = [value for value in choice.logprobs if value is not None]
        return Said(choice.text, sum(known) if known else None)

    def _fresh(self, body: dict[str, Any]) -> Reply:
        """An answer to a canary; shows on the way whether the server takes ``min_tokens``."""
        try:
            return self.api.fresh(Call("completions", body | self._floor))
        except Rejected as error:
            if not self._floor or error.status not in (400, 422):
                raise
            self._floor = {}
            return self.api.fresh(Call("completions", body))

    def _message(self, job: Job, sampling: Sampling) -> Call:
        endpoint = self._endpoints[job.community]
        body = {
            "model": endpoint.model,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": job.seed % 2**31,
        }
        if job.chat:
            user = {"role": "user", "content": job.prompt}
            system = {"role": "system", "content": endpoint.persona}
            turns = [system, user] if endpoint.persona else [user]
            return Call("chat", {"messages": turns, **body})
        text = f"{endpoint.persona}\n\n{job.prompt}" if endpoint.persona else job.prompt
        prompt = self._with_one_start(text, endpoint.base)
        return Call("completions", {"prompt": prompt, **body, **self._floor})

    def _with_one_start(self, prompt: str, model: str) -> str:
        """``prompt`` without a start token of its own (a prompts file's), where the server adds one."""
        start = start_token.begins_with_start(prompt)
        if start and start not in self._adds:
            found = start_token.echo_shows(self.api, model, start)
            if found is None:
                raise PluralismError(
                    f"{self._url}: a message prompt begins with {start!r}, and it cannot be seen whether the server puts that "
                    "before it once more; leave it out of the prompts file"
                )
            self._adds[start] = found
        return prompt.removeprefix(start) if start and self._adds[start] else prompt


def _output(reply: Reply) -> Output:
    choice = reply.choices[0]
    paid = not reply.stored
    return Output(
        (without_thought(choice.text, END) or "").strip(),
        reply.new_tokens,
        choice.finish == "stop",
        reply.prompt_tokens if paid else 0,
        choice.refused,
    )
