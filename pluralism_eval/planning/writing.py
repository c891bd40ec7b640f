"""Messages that are still to be written, by base model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pluralism_eval.communities.catalogue import Community
from pluralism_eval.planning.lengths import Lengths
from pluralism_eval.planning.models import card_of
from pluralism_eval.planning.pools import Asked, prompt_counter
from pluralism_eval.planning.rows import MESSAGES, Planned, rows_of_a_batch
from pluralism_eval.planning.work import Work
from pluralism_eval.schema import Query
from pluralism_eval.usage import Usage


@dataclass(frozen=True)
class Writing:
    """The messages of one base model's communities."""

    asked: Asked
    members: Sequence[int]
    lengths: Lengths

    def row(
        self,
        base: Community,
        pool: str,
        task: str,
        docs: int,
        wanted: Mapping[tuple[str, int, int], Query],
        chosen: Mapping[tuple[str, int], Query],
        share: float,
    ) -> Planned:
        """
        Args:
            wanted: messages of these communities.
            chosen: of which the LLM chooses the community; on average ``share`` of them falls to these.
        """
        reach, names, count = self.asked.reach, self.asked.reach.pool.names, prompt_counter(base)
        tokens = {prompt: count(prompt) for prompt in {key[0] for key in (*wanted, *chosen)}}
        needed, needed_most, work, most = (_Sum(reach.limit) for _ in range(4))

        def add(calls: float, missing: float, prompt: str, new: float) -> None:
            needed.add(calls, tokens[prompt], new)
            needed_most.add(calls, tokens[prompt], reach.limit)
            work.add(calls * missing, tokens[prompt], new)
            most.add(calls * math.ceil(missing), tokens[prompt], reach.limit)

        for (prompt, i, _), query in wanted.items():
            missing = not reach.pool.exported and i not in self.asked.stored(query)
            add(1, missing, prompt, self._new(names[i]))
        mean = sum(self._new(names[i]) for i in self.members) / len(self.members)
        for (prompt, _), query in chosen.items():
            there = set(self.members) if reach.pool.exported else set(self.asked.stored(query))
            add(share, 1 - len(there & set(self.members)) / len(self.members), prompt, mean)
        every, own = needed.work(), work.work()
        local, engine = not base.base_url, base.engine == "vllm"
        card = card_of(base.base, {} if base.base != "embedded" else {"dtype": "float32"})
        return Planned(
            MESSAGES, card, f"messages of {pool}", task, docs, own, most.work(), local=local,
            batch=rows_of_a_batch(None, "vllm", True) if engine else 32, static=not engine,
            needed=every, needed_most=needed_most.work(), stored=every.usage.calls - own.usage.calls,
        )  # fmt: skip

    def _new(self, name: str) -> float:
        own = self.lengths.by_community.get(name, self.lengths.message)
        return own.within(self.asked.reach.limit).tokens


class _Sum:
    """Calls and tokens, which may be fractions of a whole."""

    def __init__(self, limit: int) -> None:
        self._calls = self._prompt = self._new = 0.0
        self._limit, self._longest = limit, 0

    def add(self, calls: float, prompt: float, new: float) -> None:
        self._calls += calls
        self._prompt += calls * prompt
        self._new += calls * new
        self._longest = max(self._longest, round(prompt) + self._limit)

    def work(self) -> Work:
        usage = Usage(round(self._calls), round(self._prompt), round(self._new))
        return Work(usage, usage.calls, self._limit, self._longest)


def by_base(communities: Sequence[Community]) -> dict[Community, list[int]]:
    """The first community of each engine and base model → the places in the pool of all of them."""
    found: dict[tuple[str, ...], list[int]] = {}
    for i, community in enumerate(communities):
        found.setdefault((*community.place, community.base), []).append(i)
    return {communities[places[0]]: places for places in found.values()}
