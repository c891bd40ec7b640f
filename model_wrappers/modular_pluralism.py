"""modular_pluralism: the paper's method, in its three modes (section 2)."""

from __future__ import annotations

from collections.abc import Sequence

from pluralism_eval import uncertainty
from pluralism_eval.distribution import mean_read, read, to_logprobs
from pluralism_eval.schema import Answer, Message, Query, Selection

from .composite import CompositeLM
from .rounds import Prompt

Messages = Sequence[tuple[Message, ...]]


class ModularPluralism(CompositeLM):
    """An LLM and a pool of community LMs. Round 1, for all modes at once: every message."""

    method = "modular_pluralism"
    uses_communities = True

    def prompts_of(self, query: Query) -> list[Prompt]:
        k = len(self.pool.names)
        if query.mode == "steerable":
            name = "reflect" if self.settings.selection == "likelihood" else "select"
            return [Prompt(name, k, "select"), Prompt("steerable", 1)]
        return [Prompt(query.mode, k if query.mode == "overton" else 1)]

    def answer(self, queries: list[Query]) -> list[Answer]:
        messages = self.pool.messages(queries, self.llm)
        modes = {
            "overton": self._overton,
            "steerable": self._steerable,
            "distributional": self._distributional,
        }
        answers: dict[int, Answer] = {}
        for mode, method in modes.items():
            part = [i for i, query in enumerate(queries) if query.mode == mode]
            if part:
                found = method([queries[i] for i in part], [messages[i] for i in part])
                answers |= dict(zip(part, found, strict=True))
        return [answers[i] for i in range(len(queries))]

    def _overton(self, queries: list[Query], messages: Messages) -> list[Answer]:
        """One response, with all k messages as passages."""
        prompts = [self.prompts_of(query)[0] for query in queries]
        replies = self.respond(queries, prompts, messages)
        return [
            self.answered(reply, messages=ms) for reply, ms in zip(replies, messages, strict=True)
        ]

    def _steerable(self, queries: list[Query], messages: Messages) -> list[Answer]:
        """Select the message that best reflects the attribute, then answer given that one."""
        select, steerable = self.prompts_of(queries[0])
        if self.settings.selection == "likelihood":
            picks = self.choose_likeliest(queries, messages)
        else:
            picks = self.choose(queries, select, messages, len(self.pool.names))
        chosen = [[ms[pick[0]]] for ms, pick in zip(messages, picks, strict=True)]
        replies = self.respond(queries, [steerable] * len(queries), chosen)
        return [
            self.answered(
                reply,
                messages=ms,
                selections=(Selection(self.pool.names[index], raw, fallback),),
                sent=selected,
            )
            for (index, raw, fallback, selected), ms, reply in zip(
                picks, messages, replies, strict=True
            )
        ]

    def _distributional(self, queries: list[Query], messages: Messages) -> list[Answer]:
        """``d = Σ w_i d_i`` over the k option distributions, each given one message.

        Communities whose distribution could not be read are left out, the priors renormalised.
        """
        k = len(self.weights)
        flat = [query for query in queries for _ in range(k)]
        prompts = [self.prompts_of(query)[0] for query in flat]
        replies = self.respond(flat, prompts, [[m] for ms in messages for m in ms])
        answers = []
        for i, ms in enumerate(messages):
            own = replies[i * k : (i + 1) * k]
            scores = [score for _, score, _ in own if score is not None]
            mixed, mass = mean_read([read(score.logprobs) for score in scores], self.weights)
            parts = [uncertainty.part(score) for score in scores]
            least, samples = uncertainty.mixed(parts, self.weights)
            logprobs = to_logprobs(mixed, mass)
            greedy = {score.greedy for score in scores}
            agreed = greedy.pop() if len(greedy) == 1 else -1
            sent = tuple(sent for _, _, sent in own)
            answers.append(
                Answer("", logprobs, agreed, ms, sent=sent, lower=least, samples=samples)
            )
        return answers
