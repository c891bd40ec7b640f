"""prompting: a sentence that asks for pluralism, then the query."""

from __future__ import annotations

from pluralism_eval.schema import Answer, Query

from .composite import CompositeLM


class Prompting(CompositeLM):
    """Baseline 2 of section 3."""

    method = "prompting"

    def answer(self, queries: list[Query]) -> list[Answer]:
        replies = self.respond(queries, ["respond"] * len(queries), [()] * len(queries))
        return [self.answered(reply) for reply in replies]
