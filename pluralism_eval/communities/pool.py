"""The pool at work: every message that a run needs, written at most once."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

from pluralism_eval import progress, ranks, utilisation
from pluralism_eval.behind import Behind
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.communities import adapters, vllm
from pluralism_eval.communities.catalogue import Community, load_pool
from pluralism_eval.communities.engine import CANARIES, Engine, Job, Proof, Sampling
from pluralism_eval.communities.lora import LoraEngine
from pluralism_eval.communities.prompted import PromptedEngine
from pluralism_eval.communities.served import Endpoint, ServedEngine
from pluralism_eval.communities.store import MessageSource
from pluralism_eval.errors import PluralismError
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.schema import Message, Query
from pluralism_eval.settings import Settings
from pluralism_eval.usage import Usage

_MAX_ATTEMPTS = 3
_WRITE_EVERY = 32
_WRITE_SECONDS = 2.0


class CommunityPool:
    """The pool of a run: what each community says about each query, generated at most once."""

    def __init__(
        self,
        communities: Sequence[Community],
        prompts: Prompts,
        source: MessageSource,
        sampling: Sampling,
        seed: int,
        batch: int | None,
    ) -> None:
        """Checks every adapter (base model, hash, tensors) before anything heavy is loaded.

        Raises:
            PluralismError: all adapters that are missing, damaged, or of another base model.
        """
        self.communities = list(communities)
        self._prompts, self._source, self._sampling = prompts, source, sampling
        self._seed, self._batch = seed, batch
        self._adapters: dict[str, adapters.Adapter] = {}
        if not source.exported:
            if any(c.engine == "vllm" for c in self.communities):
                vllm.check_installed()
            self._adapters = adapters.resolve_all([c for c in self.communities if c.adapter])
        self._engines: dict[tuple[str, ...], Engine] = {}
        self._proofs: dict[str, Proof] = {}
        self._identities: dict[str, dict[str, str]] = {}
        self.usage = Usage()
        """Of the messages written by this pool; stored ones cost nothing."""

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.communities]

    @property
    def exported(self) -> bool:
        """True if messages come from the authors' exported files; nothing is generated then."""
        return self._source.exported

    def identity(self) -> list[dict[str, Any]]:
        """What messages depend on, per community, with what was proved; goes into the results."""
        found = []
        for c in self.communities:
            shown = {f.name: getattr(c, f.name) for f in fields(c) if getattr(c, f.name)}
            shown.pop("description")
            adapter = self._adapters.get(c.name)
            if adapter:
                shown |= {"adapter_sha256": adapter.sha256, "rank": adapter.rank}
                if adapter.commit:
                    shown["adapter_commit"] = adapter.commit
            found.append(shown)
        return found

    def base_commits(self) -> dict[str, str]:
        """Base model → the Hub commit that was loaded. Not part of what messages depend on: it is known only once the
        base is here, and ``base_revision`` pins it."""
        bases = {(c.base, c.base_revision) for c in self.communities if c.base and not c.base_url}
        found = {f"{base}@{at}": adapters.hub_commit(base, at) for base, at in sorted(bases)}
        return {name: commit for name, commit in found.items() if commit}

    def api_counts(self) -> dict[str, dict[str, Any]]:
        """Server → what happened to the requests for its messages."""
        return {
            f"communities at {engine.api.settings.base_url}": engine.api.report()
            for engine in self._engines.values()
            if isinstance(engine, ServedEngine)
        }

    def proofs(self) -> dict[str, Proof]:
        """Community → liveness proof; ``not needed`` where every message was stored already."""
        return {name: self._proofs.get(name, {"kind": "not needed"}) for name in self.names}

    def check(self, queries: Sequence[Query], llm: HarnessLLM | None = None) -> None:
        """What can be known before anything is generated.

        Raises:
            PluralismError: exported messages are missing, or a community that has to speak is
                dead: it does not differ from its base model.
        """
        self._source.check(queries, self.names)
        if self._source.exported:
            return
        asked = {(self.prompt(query), query.sample) for query in queries}
        keys = {c.name: [self._key(c, *what) for what in asked] for c in self.communities}
        stored = self._source.store.known([key for own in keys.values() for key in own])
        self.prove([c for c in self.communities if not stored.issuperset(keys[c.name])], llm)

    def prove(self, communities: Sequence[Community], llm: HarnessLLM | None = None) -> None:
        """Liveness of ``communities``; proofs of adapters are kept, since they are of the bytes."""
        store = Store(cache_root() / "hashes.sqlite", "proofs")
        by_place: dict[tuple[str, ...], list[Community]] = defaultdict(list)
        keys = {c.name: self._proof_key(c) for c in communities}
        known = store.get([key for key in keys.values() if key])
        problems: list[str] = []
        for c in communities:
            if keys[c.name] in known:
                self._proofs[c.name] = known[keys[c.name]]
            elif c.name not in self._proofs:
                by_place[c.place].append(c)
        for members in by_place.values():
            try:
                found = self._engine(members[0], llm).prove([c.name for c in members])
            except PluralismError as error:
                problems.append(str(error))
                continue
            self._proofs |= found
            store.put({keys[n]: proof for n, proof in found.items() if keys[n]})
        if problems:
            raise PluralismError("\n".join(problems))

    def _proof_key(self, community: Community) -> str:
        if community.engine not in ("lora", "vllm"):
            return ""  # a server may change: asked each time
        return digest(["proof", 1, CANARIES, self._identity(community)])

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
        # queries come in runs, one per community
        runs = [
            (self.prompt(query), len(list(own))) for query, own in groupby(q for q, _ in wanted)
        ]
        prompts = [prompt for prompt, n in runs for _ in range(n)]
        keys = [
            self._key(self.communities[i], prompt, query.sample)
            for (query, i), prompt in zip(wanted, prompts, strict=True)
        ]
        known = ranks.agree(self._stored(keys))
        by_place: dict[tuple[str, ...], dict[str, tuple[Community, str]]] = defaultdict(dict)
        for key, prompt, (_, i) in zip(keys, prompts, wanted, strict=True):
            if key not in known:
                community = self.communities[i]
                by_place[community.place][key] = (community, prompt)
        for jobs in by_place.values():
            known |= self._generate(jobs, llm)
        return [known[key] for key in keys]

    def import_messages(self, texts: Iterable[tuple[Query, int, str]]) -> int:
        """Put messages from elsewhere under this pool's keys; those already there stay. Their number."""
        rows: dict[str, dict[str, Any]] = {}
        for query, i, text in texts:
            prompt = self.prompt(query)
            rows[self._key(self.communities[i], prompt, query.sample)] = {
                "community": self.names[i],
                "prompt": prompt,
                "text": text.strip(),
                "n_tokens": 0,
                "stopped": True,
                "attempts": 1,
                "imported": True,
            }
        known = self._source.store.known(list(rows))
        new = {key: row for key, row in rows.items() if key not in known}
        self._source.store.put(new)
        return len(new)

    def stored(self, queries: Sequence[Query]) -> dict[tuple[int, int], Message]:
        """(query index, community index) → message, for those in the store."""
        keys = {
            (n, i): self._key(community, prompt, query.sample)
            for n, query in enumerate(queries)
            for prompt in [self.prompt(query)]
            for i, community in enumerate(self.communities)
        }
        known = self._stored(list(keys.values()))
        return {place: known[key] for place, key in keys.items() if key in known}

    def missing(self, wanted: Iterable[tuple[Query, int]]) -> list[tuple[str, str]]:
        """(community, prompt) of each distinct message among ``wanted`` that is not stored yet."""
        found: dict[str, tuple[str, str]] = {}
        for query, i in wanted:
            prompt = self.prompt(query)
            key = self._key(self.communities[i], prompt, query.sample)
            found[key] = self.names[i], prompt
        known = self._source.store.known(list(found))
        return [job for key, job in found.items() if key not in known]

    def _stored(self, keys: Sequence[str]) -> dict[str, Message]:
        rows = self._source.store.get(list(dict.fromkeys(keys)))
        return {key: _message(row, True) for key, row in rows.items()}

    def _generate(
        self, jobs: Mapping[str, tuple[Community, str]], llm: HarnessLLM | None
    ) -> dict[str, Message]:
        """Writes what is missing, chunk by chunk, so that other processes' work is taken over."""
        engine = self._engine(next(iter(jobs.values()))[0], llm)
        with utilisation.phase("messages"):
            return self._generate_with(engine, jobs)

    def _generate_with(
        self, engine: Engine, jobs: Mapping[str, tuple[Community, str]]
    ) -> dict[str, Message]:
        pending = [Job(key, c.name, p, _seed(key, 1)) for key, (c, p) in jobs.items()]
        done: dict[str, Message] = {}
        with progress.bar(len(pending), "messages", "message", not ranks.is_first()) as bar:
            for attempt in range(1, _MAX_ATTEMPTS + 1):

                def write(chunk: list[Job], attempt: int = attempt) -> dict[str, Message]:
                    found = self._stored([job.key for job in chunk])
                    todo = [job for job in chunk if job.key not in found]
                    bar.update(len(found))
                    if todo:
                        self._write_all(engine, todo, attempt, found, bar)
                    return found

                seed = ranks.agree(random.SystemRandom().getrandbits(64))
                chunks = _chunks(pending, engine.chunk(len(pending)), seed)
                for found in ranks.by_turns(chunks, write, self.usage):
                    done |= found
                bar.update(len(done) - bar.n)
                pending = [
                    Job(j.key, j.community, j.prompt, _seed(j.key, attempt + 1))
                    for j in pending
                    if j.key not in done
                ]
                if not pending:
                    break
        return done

    def _write_all(
        self, engine: Engine, jobs: Sequence[Job], attempt: int, done: dict[str, Message], bar: Any
    ) -> None:
        """One chunk: outputs go to the store as they come, also when the engine fails midway."""
        waiting: dict[str, Any] = {}
        kept = time.monotonic()
        with Behind() as keeping:
            try:
                for job, out in engine.generate(jobs, self._sampling):
                    self.usage.add(1, out.prompt_tokens, out.n_tokens)
                    if out.refused:  # for this run only: the next may get an answer
                        done[job.key] = Message(
                            job.community, "", out.n_tokens, True, attempt, refused=out.refused
                        )
                    elif out.text or attempt == _MAX_ATTEMPTS:
                        waiting[job.key] = {
                            "community": job.community,
                            "prompt": job.prompt,
                            "text": out.text,
                            "n_tokens": out.n_tokens,
                            "stopped": out.stopped,
                            "attempts": attempt,
                        }
                    if job.key in waiting or out.refused:
                        bar.update(1)
                    # servers' replies are stored already, each at once
                    if len(waiting) >= _WRITE_EVERY or time.monotonic() - kept > _WRITE_SECONDS:
                        keeping.start(self._keep, waiting, done)
                        waiting, kept = {}, time.monotonic()
            finally:
                keeping.start(self._keep, waiting, done)

    def _keep(self, rows: Mapping[str, Any], done: dict[str, Message]) -> None:
        """Store ``rows``; what another process stored meanwhile under a key stays, and counts."""
        if not rows:
            return
        self._source.store.put(rows)
        kept = self._source.store.get(list(rows))
        done |= {key: _message(row, row != rows[key]) for key, row in kept.items()}

    def _engine(self, community: Community, llm: HarnessLLM | None) -> Engine:
        place = community.place
        if place not in self._engines:
            members = [c for c in self.communities if c.place == place]
            self._engines[place] = self._build(members, llm)
        return self._engines[place]

    def _build(self, members: Sequence[Community], llm: HarnessLLM | None) -> Engine:
        first = members[0]
        if first.base_url:
            endpoints = {c.name: Endpoint(c.model, c.base, c.persona) for c in members}
            names = tuple(name.strip() for name in first.served_as.split(",") if name.strip())
            return ServedEngine(first.base_url, endpoints, first.api_key_variable, served_as=names)
        if first.engine == "prompted":
            personas = {c.name: c.persona for c in members}
            return PromptedEngine(first.base, personas, llm, first.base_revision, self._batch)
        own = {c.name: self._adapters[c.name] for c in members}
        if first.engine == "vllm":
            return vllm.VLLMEngine(first.base, own, first.base_revision)
        return LoraEngine(first.base, own, llm, first.base_revision, self._batch)

    def prompt(self, query: Query) -> str:
        """What every community is shown about ``query``."""
        return self._prompts.render(
            "messages", "message", query=query.text, attribute_line=query.attribute_line
        )

    def _identity(self, community: Community) -> dict[str, str]:
        """What the text of a message depends on besides its prompt, sampling and seed."""
        if community.name not in self._identities:
            self._identities[community.name] = self._read_identity(community)
        return self._identities[community.name]

    def _read_identity(self, c: Community) -> dict[str, str]:
        if c.base_url:
            return {
                "engine": "served",
                "base_url": c.base_url,
                "model": c.model,
                "persona": c.persona,
            }
        base = adapters.base_identity(c.base, c.base_revision)
        if c.engine == "prompted":
            return {"engine": "prompted", "base": base, "persona": c.persona}
        found = {"base": base, "adapter": self._adapters[c.name].sha256}
        return found | ({"engine": "vllm"} if c.engine == "vllm" else {})

    def _key(self, community: Community, prompt: str, sample: int) -> str:
        """Of a message; its seed is made of it. Sample 0 is the one that every run shares."""
        s = self._sampling
        more = {"sample": sample} if sample else {}
        return digest(
            {
                **self._identity(community),
                "prompt": prompt,
                "sampling": [s.temperature, s.top_p, s.max_tokens],
                "seed": self._seed,
                **more,
            }
        )


def _seed(key: str, attempt: int) -> int:
    return int(digest([key, attempt])[:15], 16)


def _chunks(jobs: Sequence[Job], size: int, seed: int) -> list[list[Job]]:
    """Prompts of like length together; the longest first, so that what cannot fit fails early.

    The other chunks come in an order of this run's own: several runs on one store then rarely write
    the same.
    """
    order = sorted(jobs, key=lambda job: -len(job.prompt))
    chunks = [order[start : start + size] for start in range(0, len(order), size)]
    rest = chunks[1:]
    random.Random(seed).shuffle(rest)
    return chunks[:1] + rest


def _message(row: Mapping[str, Any], reused: bool) -> Message:
    return Message(
        str(row["community"]),
        str(row["text"]),
        int(row["n_tokens"]),
        bool(row["stopped"]),
        int(row["attempts"]),
        reused,
        bool(row.get("imported", False)),
    )


def make_pool(settings: Settings, prompts: Prompts) -> CommunityPool:
    """The pool of the settings, with its message store."""
    preset = get_preset(settings.preset)
    sampling = Sampling(
        settings.message_max_tokens or preset.message_max_tokens,
        preset.message_top_p,
        settings.message_temperature,
    )
    default = "embedded" if settings.llm == "embedded" else "perspective"
    communities = load_pool(settings.communities or default)
    source = MessageSource(settings.messages)
    return CommunityPool(
        communities, prompts, source, sampling, settings.seed, settings.message_batch
    )
