"""Communities behind an OpenAI-compatible server, such as vLLM with ``--enable-lora``: one model
name a community, concurrent requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.api.client import Api, Call, Rejected
from pluralism_eval.api.replies import Reply
from pluralism_eval.api.settings import ApiSettings
from pluralism_eval.communities.engine import CANARIES, Job, Output, Proof, Sampling
from pluralism_eval.errors import raise_all

_NOISE_FACTOR = 5.0
_PROOF_TOKENS = 24


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
        """Raises PluralismError for a request that failed for good, after the others came in."""
        calls = [self._message(job, sampling) for job in jobs]
        for i, reply in self.api.ask(calls, "messages"):
            yield jobs[i], _output(reply)

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """Greedy answers of each name against its base's, on the canaries.

        They must differ in text, or in log-probability by more than the base differs from itself.
        """
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
        bases: dict[str, tuple[list[Any], float]] = {}
        for name in names:
            endpoint = self._endpoints[name]
            if endpoint.persona:
                proofs[name] = {"kind": "persona", "served": endpoint.model}
                continue
            if endpoint.base not in bases:
                first, second = self._greedy(endpoint.base), self._greedy(endpoint.base)
                bases[endpoint.base] = first, _gap(first, second)
            bare, noise = bases[endpoint.base]
            own = self._greedy(endpoint.model)
            texts = sum(a[0] != b[0] for a, b in zip(own, bare, strict=True))
            gap = _gap(own, bare)
            proofs[name] = {
                "kind": "answers",
                "texts_that_differ": texts,
                "of": len(CANARIES),
                "max_logprob_difference": gap,
                "noise": noise,
            }
            if texts == 0 and not gap > _NOISE_FACTOR * noise + 1e-6:
                problems.append(
                    f"{name}: {endpoint.model!r} answers as its base {endpoint.base!r} does on all {len(CANARIES)} "
                    "canary prompts; is the adapter loaded on the server?"
                )
        raise_all("dead community LMs", problems)
        return proofs

    def _greedy(self, model: str) -> list[tuple[str, float | None]]:
        """(text, log-probability of it or None) for each canary; asked anew each time."""
        found = []
        for text in CANARIES:
            body = {
                "model": model, "prompt": text, "max_tokens": _PROOF_TOKENS, "temperature": 0, "logprobs": 1,
            }  # fmt: skip
            reply = self._fresh(body)
            choice = reply.choices[0]
            known = [value for value in choice.logprobs if value is not None]
            found.append((choice.text, sum(known) if known else None))
        return found

    def _fresh(self, body: dict[str, Any]) -> Reply:
        """An answer to a canary; shows on the way whether the server takes ``min_tokens``."""
        try:
            return self.api.fresh(Call("completions", body | self._floor))
        except Rejected:
            if not self._floor:
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
        if endpoint.persona:
            turns = [
                {"role": "system", "content": endpoint.persona},
                {"role": "user", "content": job.prompt},
            ]
            return Call("chat", {"messages": turns, **body})
        return Call("completions", {"prompt": job.prompt, **body, **self._floor})


def _output(reply: Reply) -> Output:
    choice = reply.choices[0]
    paid = not reply.stored
    return Output(
        choice.text.strip(),
        reply.new_tokens,
        choice.finish == "stop",
        reply.prompt_tokens if paid else 0,
        choice.refused,
    )


def _gap(a: Sequence[tuple[str, float | None]], b: Sequence[tuple[str, float | None]]) -> float:
    """Largest difference (nats) of answers with equal text; 0 where there is nothing to compare."""
    return max(
        (
            abs(x[1] - y[1])
            for x, y in zip(a, b, strict=True)
            if x[0] == y[0] and x[1] is not None and y[1] is not None
        ),
        default=0.0,
    )
