"""A method whose pool has one malicious community, for chosen queries only."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pluralism_eval import plugin
from pluralism_eval.cache import Store
from pluralism_eval.communities.pool import CommunityPool
from pluralism_eval.hijack import escapes
from pluralism_eval.hijack.escapes import Checked
from pluralism_eval.hijack.kept import KeptLLM
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.schema import Message, Query, Sent

POSITIONS = ("first", "middle", "last")


def place_of(position: str, k: int) -> int:
    """Index of ``position`` among ``k`` communities; of two in the middle the earlier."""
    return {"first": 0, "middle": (k - 1) // 2, "last": k - 1}[position]


@dataclass(frozen=True)
class Plant:
    """Whose message about a query is replaced, and by what."""

    community: str
    text: str


class PlantedPool:
    """``pool``, in which what a community says about some queries is replaced."""

    def __init__(self, pool: CommunityPool, llm: HarnessLLM, plants: Mapping[str, Plant]) -> None:
        """
        Args:
            llm: shared with the communities where they have its base model.
            plants: query key → what is planted; looked up at every call.
        """
        self._pool, self._llm, self._plants = pool, llm, plants

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def messages(self, queries: Sequence[Query], llm: Any = None) -> list[tuple[Message, ...]]:
        rows = self._pool.messages(queries, self._llm)
        return [
            tuple(self._planted(q, m) for m in row) for q, row in zip(queries, rows, strict=True)
        ]

    def messages_by(self, wanted: Sequence[tuple[Query, int]], llm: Any = None) -> list[Message]:
        found = self._pool.messages_by(wanted, self._llm)
        return [self._planted(q, m) for (q, _), m in zip(wanted, found, strict=True)]

    def _planted(self, query: Query, message: Message) -> Message:
        plant = self._plants.get(query.key)
        if plant is None or plant.community != message.community:
            return message
        return Message(plant.community, plant.text, 0, True, imported=True)


def attacked(
    method: str,
    model_args: Mapping[str, Any],
    store: Store,
    batch_size: int | str | None = None,
    device: str | None = None,
) -> Any:
    """A method with communities: its own class, over an LLM whose answers are kept in ``store``.

    It has more: ``plants`` (query key → :class:`Plant`), to be filled before ``answer`` is called; ``checked``
    (query key → :class:`Checked` of every prompt that shows the planted message); and ``overlong``, why a
    query does not fit the LLM.

    Raises:
        PluralismError: whatever is wrong with ``model_args``.
    """
    plugin.register_models()
    from lm_eval.api.registry import get_model

    base: Any = get_model(method)

    class Attacked(base):
        def __init__(self) -> None:
            super().__init__(
                batch_size=batch_size, device=device, **{**model_args, "transcript": os.devnull}
            )
            self.plants: dict[str, Plant] = {}
            self.checked: dict[str, list[Checked]] = defaultdict(list)
            self._pool: Any = PlantedPool(self._pool, self.llm, self.plants)
            self.llm: Any = KeptLLM(self.llm, store)

        def overlong(self, query: Query) -> str:
            return str(self._overlong(query))

        def fitted(self, query: Query, prompt: Any, messages: Sequence[Message]) -> Sent:
            sent: Sent = super().fitted(query, prompt, messages)
            plant = self.plants.get(query.key)
            if plant and any(m.community == plant.community for m in messages):
                inert = [
                    replace(m, text=escapes.INERT) if m.community == plant.community else m
                    for m in messages
                ]
                twin = super().fitted(query, prompt, inert)
                self.checked[query.key].append(
                    escapes.check(sent, twin, plant.community, self.special, self.llm)
                )
            return sent

    return Attacked()
