"""moe: the LLM picks the most fitting community, and answers with its message in view."""

from __future__ import annotations

from pluralism_eval.schema import Answer, Query, Selection

from .composite import CompositeLM


class MoE(CompositeLM):
    """Baseline 3 of section 3. Rounds: select by description, one message, respond."""

    method = "moe"
    uses_communities = True

    def answer(self, queries: list[Query]) -> list[Answer]:
        descriptions = [c.description for c in self.pool.communities]
        picks = self.choose(
            queries, "select", [()] * len(queries), len(descriptions), descriptions=descriptions
        )
        messages = self.pool.messages_by(
            [(q, pick[0]) for q, pick in zip(queries, picks, strict=True)], self.llm
        )
        replies = self.respond(queries, ["respond"] * len(queries), [[m.text] for m in messages])
        return [
            self.answered(
                reply,
                messages=(message,),
                selections=(Selection(self.pool.names[index], raw, fallback),),
                sent=(selected,),
            )
            for (index, raw, fallback, selected), message, reply in zip(
                picks, messages, replies, strict=True
            )
        ]
