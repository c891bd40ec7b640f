"""The pool at work: every message that a run needs, written at most once."""

from __future__ import annotations

import logging
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import groupby
from typing import Any, NamedTuple

from pluralism_eval import progress, ranks, utilisation
from pluralism_eval.behind import Behind
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.communities import adapters, asking, bases, vllm
from pluralism_eval.communities.catalogue import Community, load_pool
from pluralism_eval.communities.engine import CANARIES, Engine, Job, Proof, Sampling
from pluralism_eval.communities.lora import LoraEngine
from pluralism_eval.communities.prompted import PromptedEngine
from pluralism_eval.communities.scripted import ScriptedEngine, script_sha256
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
log = logging.getLogger(__name__)


class Key(NamedTuple):
    """Of a message."""

    own: str
    """Over everything that its text depends on."""
    named: str
    """As earlier versions made it; its seed is made of it. The same as ``own`` where that held everything."""


class CommunityPool:
    """The pool of a run: what each community says about each query, generated at most once."""

    def __init__(
        self,
        communities: Sequence[Community],
        prompts: Prompts,
        source: MessageSource,
        max_tokens: int,
        settings: Settings | None = None,
    ) -> None:
        """Checks every adapter (base model, hash, tensors) before anything heavy is loaded.

        Args:
            max_tokens: new tokens of a message.
            settings: of the run: how messages are sampled, and whether its LLM is the communities' base too.

        Raises:
            PluralismError: all adapters that are missing, damaged, or of another base model.
        """
        self.communities = list(communities)
        self._prompts, self._source, self._max_tokens = prompts, source, max_tokens
        self._settings = settings or Settings()
        self._preset = get_preset(self._settings.preset)
        self._templated: dict[str, bool] = {}
        self._adapters: dict[str, adapters.Adapter] = {}
        if not source.exported:
            if any(c.engine == "vllm" for c in self.communities):
                vllm.check_installed()
            self._adapters = adapters.resolve_all([c for c in self.communities if c.adapter])
        self._engines: dict[tuple[str, ...], Engine] = {}
        self._proofs: dict[str, Proof] = {}
        self._identities: dict[str, dict[str, str]] = {}
        self._contents: dict[str, dict[str, Any]] = {}
        self._further: dict[str, dict[str, Any]] = {}
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
            if not self.exported:
                sampling = self.sampling(c)
                shown |= {"chat": self.chat(c), "message_top_p": sampling.top_p}
                shown["message_temperature"] = sampling.temperature
            adapter = self._adapters.get(c.name)
            if adapter:
                shown |= {"adapter_sha256": adapter.sha256, "rank": adapter.rank}
                shown["adapter_config_sha256"] = adapter.config_sha256
                if adapter.commit:
                    shown["adapter_commit"] = adapter.commit
            if not self.exported:
                shown |= {f"depends_on_{name}": value for name, value in self._more(c).items()}
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
        keys = {
            c.name: [
                self._key(c, *what)
                for what in dict.fromkeys((self.prompt(q, c), q.sample) for q in queries)
            ]
            for c in self.communities
        }
        stored = self._known([key for own in keys.values() for key in own])
        self.prove(
            [c for c in self.communities if not stored.issuperset(k.own for k in keys[c.name])], llm
        )

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
        return digest(["proof", 2, CANARIES, self._identity(community), self._all_of(community)])

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
        prompts = self._prompts_of(wanted)
        keys = [
            self._key(self.communities[i], prompt, query.sample)
            for (query, i), prompt in zip(wanted, prompts, strict=True)
        ]
        known = ranks.agree(self._stored(keys, say=True))
        together: dict[Any, dict[Key, tuple[Community, str]]] = defaultdict(dict)
        for key, prompt, (_, i) in zip(keys, prompts, wanted, strict=True):
            if key.own not in known:
                community = self.communities[i]
                together[community.place, self.sampling(community)][key] = community, prompt
        for (_, sampling), jobs in together.items():
            known |= self._generate(jobs, sampling, llm)
        return [known[key.own] for key in keys]

    def _prompts_of(self, wanted: Sequence[tuple[Query, int]]) -> list[str]:
        """[n_wanted] prompts. Queries come in runs, one a community, and communities in at most two forms."""
        found = []
        for query, own in groupby(wanted, key=lambda pair: pair[0]):
            forms: dict[bool, str] = {}
            for _, i in own:
                chat = self.chat(self.communities[i])
                if chat not in forms:
                    forms[chat] = self.prompt(query, self.communities[i])
                found.append(forms[chat])
        return found

    def import_messages(self, texts: Iterable[tuple[Query, int, str]]) -> int:
        """Put messages from elsewhere under this pool's keys; those already there stay. Their number."""
        rows: dict[str, dict[str, Any]] = {}
        for query, i, text in texts:
            prompt = self.prompt(query, self.communities[i])
            rows[self._key(self.communities[i], prompt, query.sample).own] = {
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
            (n, i): self._key(community, self.prompt(query, community), query.sample)
            for n, query in enumerate(queries)
            for i, community in enumerate(self.communities)
        }
        known = self._stored(list(keys.values()))
        return {place: known[key.own] for place, key in keys.items() if key.own in known}

    def missing(self, wanted: Iterable[tuple[Query, int]]) -> list[tuple[str, str]]:
        """(community, prompt) of each distinct message among ``wanted`` that is not stored yet."""
        found: dict[Key, tuple[str, str]] = {}
        for query, i in wanted:
            prompt = self.prompt(query, self.communities[i])
            key = self._key(self.communities[i], prompt, query.sample)
            found[key] = self.names[i], prompt
        known = self._known(list(found))
        return [job for key, job in found.items() if key.own not in known]

    def _known(self, keys: Sequence[Key]) -> set[str]:
        """The own keys of those that :meth:`_stored` would give."""
        known = self._source.store.known(list(dict.fromkeys(key.own for key in keys)))
        return known | self._imported([key for key in keys if key.own not in known]).keys()

    def _stored(self, keys: Sequence[Key], say: bool = False) -> dict[str, Message]:
        """Own key → message, for those in the store."""
        rows = self._source.store.get(list(dict.fromkeys(key.own for key in keys)))
        rows |= self._imported([key for key in keys if key.own not in rows], say)
        return {key: _message(row, True) for key, row in rows.items()}

    def _imported(self, keys: Sequence[Key], say: bool = False) -> dict[str, Any]:
        """Own key → row under the key of an earlier version. Imported ones, which no model here wrote, are taken.

        Of the others nobody can say which configuration wrote them. They are written anew.
        """
        earlier = {key.named: key.own for key in keys if key.named != key.own}
        rows = self._source.store.get(list(earlier))
        taken = {earlier[named]: row for named, row in rows.items() if row.get("imported")}
        unproved = len(rows) - len(taken)
        if say and unproved:
            log.warning(
                "%d stored messages are of a version whose keys did not hold the adapter's configuration, the base's files "
                "or its number format. They cannot be proved to be of what is here now, and are written anew",
                unproved,
            )
        return taken

    def _generate(
        self,
        jobs: Mapping[Key, tuple[Community, str]],
        sampling: Sampling,
        llm: HarnessLLM | None,
    ) -> dict[str, Message]:
        """Writes what is missing, chunk by chunk, so that other processes' work is taken over."""
        engine = self._engine(next(iter(jobs.values()))[0], llm)
        with utilisation.phase("messages"):
            return self._generate_with(engine, jobs, sampling)

    def _generate_with(
        self, engine: Engine, jobs: Mapping[Key, tuple[Community, str]], sampling: Sampling
    ) -> dict[str, Message]:
        pending = [
            Job(key.own, c.name, p, _seed(key.named, 1), self.chat(c))
            for key, (c, p) in jobs.items()
        ]
        keys = {key.own: key for key in jobs}
        done: dict[str, Message] = {}
        with progress.bar(len(pending), "messages", "message", not ranks.is_first()) as bar:
            for attempt in range(1, _MAX_ATTEMPTS + 1):

                def write(chunk: list[Job], attempt: int = attempt) -> dict[str, Message]:
                    found = self._stored([keys[job.key] for job in chunk])
                    todo = [job for job in chunk if job.key not in found]
                    bar.update(len(found))
                    if todo:
                        self._write_all(engine, todo, sampling, attempt, found, bar)
                    return found

                seed = ranks.agree(random.SystemRandom().getrandbits(64))
                chunks = _chunks(pending, engine.chunk(len(pending)), seed)
                for found in ranks.by_turns(chunks, write, self.usage):
                    done |= found
                bar.update(len(done) - bar.n)
                pending = [
                    replace(j, seed=_seed(keys[j.key].named, attempt + 1))
                    for j in pending
                    if j.key not in done
                ]
                if not pending:
                    break
        return done

    def _write_all(
        self,
        engine: Engine,
        jobs: Sequence[Job],
        sampling: Sampling,
        attempt: int,
        done: dict[str, Message],
        bar: Any,
    ) -> None:
        """One chunk: outputs go to the store as they come, also when the engine fails midway."""
        waiting: dict[str, Any] = {}
        kept = time.monotonic()
        with Behind() as keeping:
            try:
                for job, out in engine.generate(jobs, sampling):
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
        first, day = members[0], self._settings.chat_date
        batch = self._settings.message_batch
        if first.base_url:
            endpoints = {c.name: Endpoint(c.model, c.base, c.persona) for c in members}
            names = tuple(name.strip() for name in first.served_as.split(",") if name.strip())
            return ServedEngine(first.base_url, endpoints, first.api_key_variable, served_as=names)
        if first.engine == "prompted":
            personas = {c.name: c.persona for c in members}
            return PromptedEngine(first.base, personas, llm, first.base_revision, batch, day)
        if first.engine == "scripted":
            return ScriptedEngine({c.name: c.script for c in members})
        own = {c.name: self._adapters[c.name] for c in members}
        if first.engine == "vllm":
            return vllm.VLLMEngine(first.base, own, first.base_revision, day)
        return LoraEngine(first.base, own, llm, first.base_revision, batch, day)

    def prompt(self, query: Query, community: Community | None = None) -> str:
        """What ``community`` (None: the first one) is shown about ``query``."""
        chat = self.chat(community or self.communities[0])
        authors = self._preset.message_layout == "authors"
        return asking.prompt_of(self._prompts, query, chat, authors)

    def sampling(self, c: Community) -> Sampling:
        """How its messages are drawn: as the settings say, else its entry in the pool, else the preset."""
        s = self._settings
        return Sampling(
            self._max_tokens,
            _first_given(s.message_top_p, c.message_top_p, self._preset.message_top_p),
            _first_given(s.message_temperature, c.message_temperature, 1.0),
        )

    def chat(self, c: Community) -> bool:
        """Whether it is asked in a chat template."""
        if c.name not in self._templated:
            self._templated[c.name] = (
                c.chat == "true" if c.chat != "auto" else self._has_template(c)
            )
        return self._templated[c.name]

    def _has_template(self, c: Community) -> bool:
        if c.engine == "scripted":
            return True  # no model: nothing stands against asking for an answer in words
        if not c.base_url:
            return bases.has_template(c.base, c.base_revision)
        if c.persona:
            return True  # a system instruction needs a chat
        store = Store(cache_root() / "hashes.sqlite", "templates")
        key = digest([c.base_url, c.model])
        known = store.get([key])
        if key not in known:
            engine = self._engine(c, None)
            assert isinstance(engine, ServedEngine)
            known = {key: engine.has_template(c.name)}
            store.put(known)
        return bool(known[key])

    def _identity(self, community: Community) -> dict[str, str]:
        """What keys of earlier versions told of a community."""
        if community.name not in self._identities:
            self._identities[community.name] = self._read_identity(community)
        return self._identities[community.name]

    def _read_identity(self, c: Community) -> dict[str, str]:
        # earlier versions asked personas in a chat, where there was a template, and all others without one
        before = bool(c.persona) and (
            bool(c.base_url) or bases.has_template(c.base, c.base_revision)
        )
        usual = self.chat(c) == before
        asked = {} if usual else {"chat": str(self.chat(c))}
        if c.base_url:
            return {
                "engine": "served",
                "base_url": c.base_url,
                "model": c.model,
                "persona": c.persona,
                **asked,
            }
        if c.engine == "scripted":
            return {"engine": "scripted", "script": script_sha256(c.script), **asked}
        base = bases.named_base(c.base, c.base_revision)
        if c.engine == "prompted":
            return {"engine": "prompted", "base": base, "persona": c.persona, **asked}
        found = {"base": base, "adapter": self._adapters[c.name].sha256, **asked}
        if c.engine == "vllm":
            return found | {"engine": "vllm"}
        version = self._adapters[c.name].key_version
        return found | ({"version": str(version)} if version > 1 else {})

    def _all_of(self, c: Community) -> dict[str, Any]:
        """The content of base and configuration, the number format of a base in this process, the date in its template."""
        if c.engine == "scripted":
            return {}  # the file's hash is all that its messages depend on
        if c.name not in self._contents:
            found: dict[str, Any] = {}
            if not c.base_url:
                found["base"] = bases.base_identity(c.base, c.base_revision)
            if not c.base_url and c.engine != "vllm":  # vLLM loads a model of its own
                found["numbers"] = bases.number_format(self._settings, c.base, c.base_revision)
            if not c.base_url and self.chat(c):
                found["chat_date"] = bases.date_in_template(self._settings, c.base, c.base_revision)
            if c.adapter:
                found["adapter_config"] = self._adapters[c.name].config_sha256
            self._contents[c.name] = found
        return self._contents[c.name]

    def _more(self, c: Community) -> dict[str, Any]:
        """Of :meth:`_all_of` what keys of earlier versions neither held nor imply."""
        if c.name in self._further:
            return self._further[c.name]
        implied = set()
        if c.base and not c.base_url and bases.pinned(c.base, c.base_revision):
            implied.add("base")
        if c.adapter and self._adapters[c.name].usual:
            implied.add("adapter_config")
        found = {k: v for k, v in self._all_of(c).items() if v and k not in implied}
        self._further[c.name] = found
        return found

    def _key(self, community: Community, prompt: str, sample: int) -> Key:
        """Of a message. Sample 0 is the one that every run shares."""
        s = self.sampling(community)
        more = {"sample": sample} if sample else {}
        named = digest(
            {
                **self._identity(community),
                "prompt": prompt,
                "sampling": [s.temperature, s.top_p, s.max_tokens],
                "seed": self._settings.seed,
                **more,
            }
        )
        further = self._more(community)
        return Key(digest([named, further]) if further else named, named)


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


def _first_given(*values: float | None) -> float:
    """The first that is not None; the last one never is."""
    return next(float(value) for value in values if value is not None)


def make_pool(settings: Settings, prompts: Prompts) -> CommunityPool:
    """The pool of the settings, with its message store."""
    limit = settings.message_max_tokens or get_preset(settings.preset).message_max_tokens
    default = "embedded" if settings.llm == "embedded" else "perspective"
    communities = load_pool(settings.communities or default)
    return CommunityPool(communities, prompts, MessageSource(settings.messages), limit, settings)
