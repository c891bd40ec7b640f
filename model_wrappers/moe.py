"""moe: the LLM picks the most fitting community, and answers with its message in view."""

from __future__ import annotations

from functools import cached_property

from pluralism_eval.passages import one_line
from pluralism_eval.schema import Answer, Message, Query, Selection

from .composite import CompositeLM
from .rounds import Prompt

_RESPOND = Prompt("respond", 1)


class MoE(CompositeLM):
    """Baseline 3 of section 3. Rounds: select by description, one message, respond."""

    method = "moe"
    uses_communities = True

    @cached_property
    def _select(self) -> Prompt:
        described = [one_line(c.description, self.special) for c in self.pool.communities]
        return Prompt("select", 0, "select", {"descriptions": described})

    def prompts_of(self, query: Query) -> list[Prompt]:
        return [self._select, _RESPOND]

    def answer(self, queries: list[Query]) -> list[Answer]:
        nothing: list[tuple[Message, ...]] = [()] * len(queries)
        picks = self.choose(queries, self._select, nothing, len(self.pool.names))
        messages = self.pool.messages_by(
            [(q, pick[0]) for q, pick in zip(queries, picks, strict=True)], self.llm
        )
        replies = self.respond(queries, [_RESPOND] * len(queries), [[m] for m in messages])
        return [
            self.answered(
                reply,
                messages=(message,),
                selections=(Selection(self.pool.names[index], raw, fallback),),
                sent=selected,
            )
            for (index, raw, fallback, selected), message, reply in zip(
                picks, messages, replies, strict=True
            )
        ]
