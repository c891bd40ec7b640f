"""Which communities there are: named pools and users' YAML files, and the pool at work."""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from pluralism_eval.cache import digest
from pluralism_eval.communities import adapters
from pluralism_eval.communities.lora import Job, LoraEngine, Sampling
from pluralism_eval.communities.store import MessageSource
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Message, Query

log = logging.getLogger(__name__)
_FIELDS = ("name", "description", "base", "adapter", "revision")
_MAX_ATTEMPTS = 3


@dataclass(frozen=True)
class Community:
    """One community LM: a LoRA adapter on a base model."""

    name: str
    description: str
    base: str
    adapter: str
    revision: str = "main"


def named_pools() -> dict[str, list[dict[str, Any]]]:
    """The pools that ship with the package."""
    text = (files("pluralism_eval.communities") / "communities.yaml").read_text(encoding="utf-8")
    return {name: pool for name, pool in yaml.safe_load(text).items() if not name.startswith(".")}


def load_pool(name_or_path: str) -> list[Community]:
    """The communities of a named pool or of a YAML list.

    Raises:
        PluralismError: unknown pool, unreadable YAML, empty pool, or bad entries (all at once).
    """
    pools = named_pools()
    if name_or_path in pools:
        entries: Any = pools[name_or_path]
    else:
        path = Path(name_or_path)
        if not path.is_file():
            raise PluralismError(
                f"communities={name_or_path!r} is neither a named pool ({', '.join(pools)}) nor a YAML file"
            )
        try:
            entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PluralismError(
                f"communities={name_or_path!r} cannot be read as YAML: {error}"
            ) from error
    if not isinstance(entries, list) or not entries:
        raise PluralismError(
            f"communities={name_or_path!r} must be a list of at least one community ({', '.join(_FIELDS)}), "
            f"got {'an empty pool' if not entries else type(entries).__name__}"
        )
    return _parse(entries, name_or_path, pools)


def _parse(
    entries: list[Any], source: str, pools: Mapping[str, list[dict[str, Any]]]
) -> list[Community]:
    shipped = {
        f"{pool}/{entry['name']}": entry for pool, members in pools.items() for entry in members
    }
    problems: list[str] = []
    found: list[Community] = []
    for i, entry in enumerate(entries):
        if isinstance(entry, str):  # "pool/name" of a shipped community
            if entry not in shipped:
                problems.append(
                    f"entry {i}: unknown community {entry!r}. Known: {', '.join(sorted(shipped))}"
                )
                continue
            entry = shipped[entry]
        if not isinstance(entry, dict):
            problems.append(f"entry {i}: must be a mapping or pool/name, got {entry!r}")
            continue
        missing = [
            f for f in _FIELDS[:-1] if not isinstance(entry.get(f), str) or not entry[f].strip()
        ]
        unknown = [str(f) for f in entry if f not in _FIELDS]
        if missing or unknown:
            problems.append(
                f"entry {i} ({entry.get('name')!r}): missing {missing}, unknown {unknown}; fields: {', '.join(_FIELDS)}"
            )
            continue
        if not re.fullmatch(r"[A-Za-z0-9_-]+", entry["name"]) or entry["name"] == "__base__":
            problems.append(
                f"entry {i}: name {entry['name']!r} may hold letters, digits, _ and - only"
            )
        found.append(Community(**{key: str(value) for key, value in entry.items()}))
    names = [c.name for c in found]
    problems += [
        f"name {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    raise_all(f"communities={source!r}", problems)
    return found


class CommunityPool:
    """The pool of a run: what each community says about each query, generated at most once."""

    def __init__(
        self,
        communities: Sequence[Community],
        prompts: Prompts,
        source: MessageSource,
        sampling: Sampling,
        seed: int,
        batch: int,
    ) -> None:
        """Checks every adapter (base model, format) before anything heavy is loaded.

        Raises:
            PluralismError: an adapter is missing, of another base model, or not safetensors.
        """
        self.communities = list(communities)
        self._prompts, self._source, self._sampling = prompts, source, sampling
        self._seed, self._batch = seed, batch
        self._adapters = {} if source.exported else adapters.resolve_all(self.communities)
        self._engines: dict[str, LoraEngine] = {}

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.communities]

    @property
    def exported(self) -> bool:
        """True if messages come from the authors' exported files; nothing is generated then."""
        return self._source.exported

    def identity(self) -> list[dict[str, str]]:
        """What messages depend on, per community; goes into the results."""
        return [
            {"name": c.name, "base": c.base, "adapter": c.adapter, "revision": c.revision}
            | (
                {"adapter_sha256": self._adapters[c.name].sha256}
                if c.name in self._adapters
                else {}
            )
            for c in self.communities
        ]

    def check(self, queries: Sequence[Query]) -> None:
        """Raises PluralismError if exported messages for these queries are missing."""
        self._source.check(queries, self.names)

    def messages(
        self, queries: Sequence[Query], llm: HarnessLLM | None = None
    ) -> list[tuple[Message, ...]]:
        """All k messages about every query: [n_queries][k], in pool order."""
        k = len(self.communities)
        flat = self.messages_by([(q, i) for q in queries for i in range(k)], llm)
        return [tuple(flat[i * k : (i + 1) * k]) for i in range(len(queries))]

    def messages_by(
        self, wanted: Sequence[tuple[Query, int]], llm: HarnessLLM | None = None
    ) -> list[Message]:
        """The message of community ``i`` about ``query``, for every (query, i); stored ones first."""
        if self._source.exported:
            return [self._source.lookup(query, self.names[i]) for query, i in wanted]
        prompts = [self._prompt(query) for query, _ in wanted]
        keys = [
            self._key(self.communities[i], prompt)
            for (_, i), prompt in zip(wanted, prompts, strict=True)
        ]
        known = {
            key: self._message(value, True)
            for key, value in self._source.store.get(list(dict.fromkeys(keys))).items()
        }
        todo: dict[str, tuple[Community, str]] = {
            key: (self.communities[i], prompt)
            for key, prompt, (_, i) in zip(keys, prompts, wanted, strict=True)
            if key not in known
        }
        by_base: dict[str, list[tuple[str, Community, str]]] = defaultdict(list)
        for key, (community, prompt) in todo.items():
            by_base[community.base].append((key, community, prompt))
        for base, jobs in by_base.items():
            known |= self._generate(base, jobs, llm)
        return [known[key] for key in keys]

    def _generate(
        self, base: str, jobs: list[tuple[str, Community, str]], llm: HarnessLLM | None
    ) -> dict[str, Message]:
        engine = self._engine(base, llm)
        names = {key: community.name for key, community, _ in jobs}
        pending = [
            Job(key, c.name, prompt, int(digest([key, 1])[:15], 16)) for key, c, prompt in jobs
        ]
        done: dict[str, Message] = {}
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            empty = []
            for batch in engine.generate(pending, self._sampling, self._batch):
                rows = {}
                for job, out in batch:
                    if not out.text and attempt < _MAX_ATTEMPTS:
                        empty.append(
                            Job(
                                job.key,
                                job.adapter,
                                job.prompt,
                                int(digest([job.key, attempt + 1])[:15], 16),
                            )
                        )
                        continue
                    rows[job.key] = {
                        "community": names[job.key],
                        "text": out.text,
                        "n_tokens": out.n_tokens,
                        "stopped": out.stopped,
                        "attempts": attempt,
                    }
                self._source.store.put(rows)
                done |= {key: self._message(row, False) for key, row in rows.items()}
            pending = empty
            if not pending:
                break
        return done

    def _engine(self, base: str, llm: HarnessLLM | None) -> LoraEngine:
        if base not in self._engines:
            members = {c.name: self._adapters[c.name] for c in self.communities if c.base == base}
            self._engines[base] = LoraEngine(base, members, llm)
        return self._engines[base]

    def _prompt(self, query: Query) -> str:
        return self._prompts.render(
            "messages", "message", query=query.text, attribute_line=query.attribute_line
        )

    def _key(self, community: Community, prompt: str) -> str:
        return digest(
            {
                "base": adapters.base_identity(community.base),
                "adapter": self._adapters[community.name].sha256,
                "prompt": prompt,
                "sampling": [
                    self._sampling.temperature,
                    self._sampling.top_p,
                    self._sampling.max_tokens,
                ],
                "seed": self._seed,
            }
        )

    @staticmethod
    def _message(row: Mapping[str, Any], reused: bool) -> Message:
        return Message(
            str(row["community"]),
            str(row["text"]),
            int(row["n_tokens"]),
            bool(row["stopped"]),
            int(row["attempts"]),
            reused,
        )


def make_pool(
    name_or_path: str,
    prompts: Prompts,
    messages: str | None,
    sampling: Sampling,
    seed: int,
    batch: int,
) -> CommunityPool:
    """The pool of the settings, with its message store."""
    source = MessageSource(messages)
    return CommunityPool(load_pool(name_or_path), prompts, source, sampling, seed, batch)
