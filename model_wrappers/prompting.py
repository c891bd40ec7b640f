"""prompting: a sentence that asks for pluralism, then the query."""

from __future__ import annotations

from pluralism_eval.schema import Answer, Query

from .composite import CompositeLM
from .rounds import Prompt

_RESPOND = Prompt("respond", 0)


class Prompting(CompositeLM):
    """Baseline 2 of section 3."""

    method = "prompting"

    def prompts_of(self, query: Query) -> list[Prompt]:
        return [_RESPOND]

    def answer(self, queries: list[Query]) -> list[Answer]:
        replies = self.respond(queries, [_RESPOND] * len(queries), [()] * len(queries))
        return [self.answered(reply) for reply in replies]
