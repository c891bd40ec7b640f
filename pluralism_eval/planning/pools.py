"""A pool that writes nothing: stored messages are shown as they are, the others as filler of their length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from pluralism_eval.cache import digest
from pluralism_eval.communities import asking
from pluralism_eval.communities.catalogue import Community, load_pool
from pluralism_eval.communities.pool import CommunityPool, make_pool
from pluralism_eval.communities.store import MessageSource
from pluralism_eval.errors import PluralismError
from pluralism_eval.planning.counting import CHARACTERS, counter_of, filler
from pluralism_eval.planning.lengths import Lengths, Text
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Message, Query
from pluralism_eval.settings import Settings

Key = tuple[str, int, int]
"""Prompt, community, sample: what a message is about and whose it is."""


@dataclass(frozen=True)
class Reach:
    """The real pool, as far as it can be had on this machine without a download."""

    pool: CommunityPool
    communities: Sequence[Community]
    limit: int
    """New tokens of a message."""
    problem: str = ""
    """Why its adapters cannot be had; none of its messages can be stored here then."""


def reach(settings: Settings) -> Reach:
    """The pool of ``settings``.

    Raises:
        PluralismError: an unknown pool or community, or exported messages asked for several samples.
    """
    preset, prompts = get_preset(settings.preset), Prompts(settings.prompts)
    default = "embedded" if settings.llm == "embedded" else "perspective"
    communities = load_pool(settings.communities or default)
    limit = settings.message_max_tokens or preset.message_max_tokens
    try:
        pool = make_pool(settings, prompts)
    except PluralismError as error:
        # without adapters there are no keys: a pool of the same names, under which nothing is stored
        plain = [
            replace(
                c,
                engine="served",
                base_url="planned:",
                adapter="",
                chat="true" if c.chat == "auto" else c.chat,
            )
            for c in communities
        ]
        pool = CommunityPool(plain, prompts, MessageSource(settings.messages), limit, settings)
        return Reach(pool, communities, limit, _first(error))
    if pool.exported and settings.message_samples > 1:
        raise PluralismError(
            f"message_samples={settings.message_samples}: the exported files in messages={settings.messages!r} hold "
            "one message an item; drop message_samples"
        )
    return Reach(pool, communities, limit)


def _first(error: PluralismError) -> str:
    """The first problem of several, shortened."""
    lines = str(error).splitlines()
    line = next((line.strip(" -") for line in lines if line.startswith("  - ")), lines[0])
    return line if len(line) <= 150 else f"{line[:147]}..."


def pool_key(settings: Settings, metadata: Any) -> str:
    """Runs with one key share their messages."""
    default = "embedded" if settings.llm == "embedded" else "perspective"
    s = settings
    kept = (
        s.communities or default, s.preset, s.message_max_tokens, s.message_temperature, s.message_top_p, s.seed,
        s.messages, s.prompts,
    )  # fmt: skip
    return digest([kept, dict(metadata)])


class Asked:
    """What runs ask of one pool; kept over all of them."""

    def __init__(self, found: Reach) -> None:
        self.reach = found
        self._stored: dict[tuple[str, int], dict[int, Message]] = {}
        self._prompts: dict[tuple[str, str], str] = {}
        self.all: dict[str, dict[Key, Query]] = defaultdict(dict)
        """Task → messages that are needed whatever an LLM says."""
        self.one: dict[str, dict[tuple[str, int], Query]] = defaultdict(dict)
        """Task → (prompt, sample) of which one community's message is needed, the LLM's choice."""

    def prompt(self, query: Query) -> str:
        key = (query.text, query.attribute_line)
        if key not in self._prompts:
            self._prompts[key] = self.reach.pool.prompt(query)
        return self._prompts[key]

    def stored(self, query: Query) -> dict[int, Message]:
        """Community → message about ``query`` that is there."""
        return self._stored[self.prompt(query), query.sample]

    def look_up(self, queries: Sequence[Query]) -> None:
        """Reads what the store has about ``queries``."""
        new = {
            key: query
            for query in queries
            if (key := (self.prompt(query), query.sample)) not in self._stored
        }
        for key in new:
            self._stored[key] = {}
        pool = self.reach.pool
        if pool.exported:
            pool.check(list(queries))
            return
        ordered = list(new)
        for (n, i), message in pool.stored(list(new.values())).items():
            self._stored[ordered[n]][i] = message

    def measured(self) -> tuple[dict[str, Text], int]:
        """(community → mean length of its messages that are stored, their number); of those looked up."""
        names = self.reach.pool.names
        found: dict[str, list[Message]] = defaultdict(list)
        for own in self._stored.values():
            for i, message in own.items():
                if not message.imported:  # those have no count of tokens
                    found[names[i]].append(message)
        lengths = {
            name: Text(fmean(m.n_tokens for m in own), fmean(len(m.text) for m in own))
            for name, own in found.items()
        }
        return lengths, sum(map(len, found.values()))


class StandInPool:
    """What a method asks of its pool in a dry run."""

    def __init__(self, asked: Asked, task: str, lengths: Lengths, upper: bool) -> None:
        self._asked, self._task, self._lengths, self._upper = asked, task, lengths, upper
        self._serial: dict[Key, int] = {}
        self._fillers: dict[int, str] = {}

    @property
    def communities(self) -> Sequence[Community]:
        return self._asked.reach.communities

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.communities]

    @property
    def exported(self) -> bool:
        return self._asked.reach.pool.exported

    def messages(self, queries: Sequence[Query], llm: Any = None) -> list[tuple[Message, ...]]:
        """As :meth:`CommunityPool.messages`."""
        self._asked.look_up(queries)
        k = range(len(self.communities))
        for query in queries:
            for i in k:
                self._asked.all[self._task][self._asked.prompt(query), i, query.sample] = query
        return [tuple(self._message(query, i) for i in k) for query in queries]

    def messages_by(self, wanted: Sequence[tuple[Query, int]], llm: Any = None) -> list[Message]:
        """As :meth:`CommunityPool.messages_by`."""
        self._asked.look_up([query for query, _ in wanted])
        for query, _ in wanted:
            self._asked.one[self._task][self._asked.prompt(query), query.sample] = query
        return [self._message(query, i) for query, i in wanted]

    def _message(self, query: Query, i: int) -> Message:
        if self.exported:
            return self._asked.reach.pool.messages_by([(query, i)])[0]
        known = self._asked.stored(query).get(i)
        return known or self._filler((self._asked.prompt(query), i, query.sample))

    def _filler(self, key: Key) -> Message:
        """A text of its own for every message: equal prompts would be one call."""
        name, limit = self.communities[key[1]].name, self._asked.reach.limit
        own = self._lengths.by_community.get(name, self._lengths.message).within(limit)
        length = Text.of_limit(limit, CHARACTERS) if self._upper else own
        number = str(self._serial.setdefault(key, len(self._serial) + 1))
        size = round(length.characters)
        if size not in self._fillers:
            self._fillers[size] = filler(size)
        body = self._fillers[size][: max(1, size - len(number) - 1)]
        return Message(name, f"{number} {body}", round(length.tokens), not self._upper)


def prompt_counter(community: Community) -> Any:
    """Prompt → tokens that the community's engine sends."""
    counter = counter_of(community.base)
    persona = community.persona
    tokenizer = counter.tokenizer
    wanted = community.chat == "true" or (
        community.chat == "auto" and getattr(tokenizer, "chat_template", None) is not None
    )

    def count(prompt: str) -> int:
        if not wanted or tokenizer is None:
            return counter(f"{persona}\n\n{prompt}" if persona else prompt)
        return len(asking.encode(tokenizer, prompt, True, persona))

    return count
