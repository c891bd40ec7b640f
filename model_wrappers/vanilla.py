"""vanilla: the query, unchanged."""

from __future__ import annotations

from typing import Any

from pluralism_eval.schema import Answer, Query

from .composite import CompositeLM
from .rounds import Prompt

_QUERY = Prompt("query", 0)


class Vanilla(CompositeLM):
    """The LLM alone. Transparent, except that our option tasks read option letters by default."""

    method = "vanilla"

    def passes_through(self, query: Query) -> bool:
        return self.settings.readout == "harness" or query.readout in (
            "continuations",
            "generation",
        )

    def prompts_of(self, query: Query) -> list[Prompt]:
        return [_QUERY]

    def answer(self, queries: list[Query]) -> list[Answer]:
        replies = self.respond(queries, [_QUERY] * len(queries), [()] * len(queries))
        return [self.answered(reply) for reply in replies]

    def wording(self, name: str, query: Query, **values: Any) -> str:
        return query.text

    def loglikelihood_rolling(
        self, requests_: list[Any], disable_tqdm: bool = False
    ) -> list[float]:
        results: list[float] = self.inner.loglikelihood_rolling(requests_)
        return results
