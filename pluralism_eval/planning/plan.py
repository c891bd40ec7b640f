"""What runs would cost: every call counted by a dry run, messages against the store, lengths of texts as given.

The expected figures have texts of the expected length, the upper bound has every text at its limit of new
tokens. Messages are written once for all runs that share a pool, whatever the method or the LLM.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pluralism_eval import listening
from pluralism_eval.planning.describe import Described, describe
from pluralism_eval.planning.dry import Tasks, docs_of, dry_run
from pluralism_eval.planning.entailment import Entailment
from pluralism_eval.planning.lengths import ASSUMED, Lengths, assumptions
from pluralism_eval.planning.pools import Asked, StandInPool, pool_key, reach
from pluralism_eval.planning.rows import (
    ENTAILMENT,
    LLM,
    WITH_COMMUNITIES,
    Plan,
    Planned,
    rows_of_a_batch,
)
from pluralism_eval.planning.work import Work
from pluralism_eval.planning.writing import Writing, by_base
from pluralism_eval.settings import parse
from pluralism_eval.study import RunSpec


@dataclass
class _Shared:
    """A pool and what its runs are."""

    asked: Asked
    name: str
    spec: RunSpec
    docs: dict[str, int] = field(default_factory=dict)


def make_plan(
    specs: Sequence[RunSpec],
    lengths: Callable[[RunSpec, str], Lengths] = lambda spec, task: ASSUMED,
    described: Callable[[RunSpec], Described] | None = None,
    batch_size: int | str | None = None,
) -> Plan:
    """The plan of ``specs``.

    Args:
        lengths: (run, task) → expected lengths.
        described: run → its LLM; default: what can be known without loading it.
        batch_size: lm-eval's flag.

    Raises:
        PluralismError: as the runs would before their first call.
    """
    return _Planner(lengths, described or _described, batch_size).plan(specs)


def _described(spec: RunSpec) -> Described:
    return describe(parse(spec.method, spec.model_args()), spec.llm.parameters)


def _of_listening(spec: RunSpec, llm: Described) -> list[str]:
    """What a run asks for its manipulation check, unless an earlier one has."""
    settings = parse(spec.method, spec.model_args())
    if spec.method not in WITH_COMMUNITIES or listening.unwanted(settings):
        return []
    readout = "letters" if settings.readout == "options" else settings.readout
    prompts, requests = listening.size(readout, settings.readout_samples)
    calls = f"{prompts:,} prompts"
    if llm.kind in ("api", "openai"):
        calls += f" (up to {requests:,} requests where a server echoes its prompts)"
    return [
        f"not in the tables: how far {llm.card.name} listens takes {calls}, once per LLM, readout and template; "
        "listening=false leaves it out"
    ]


class _Planner:
    def __init__(
        self,
        lengths: Callable[[RunSpec, str], Lengths],
        described: Callable[[RunSpec], Described],
        batch_size: int | str | None,
    ) -> None:
        self._lengths, self._described, self._batch = lengths, described, batch_size
        self._tasks = Tasks()
        self._pools: dict[str, _Shared] = {}
        self._known: dict[tuple[Any, ...], Work] = {}
        self._entailment = Entailment()
        self._notes: dict[str, None] = {}

    def plan(self, specs: Sequence[RunSpec]) -> Plan:
        for spec in specs:
            for task in self._tasks.of(spec):
                self._look_up(spec, task)
        rows = [row for spec in specs for task in self._tasks.of(spec) for row in self._of_run(spec, task)]  # fmt: skip
        rows += [row for shared in self._pools.values() for row in self._messages(shared)]
        members = {s.name: s.asked.reach.communities for s in self._pools.values()}
        pools = {s.llm.name: self._pool(s).name for s in specs if s.method in WITH_COMMUNITIES}
        return Plan(rows, self._all_notes(specs), members, pools)

    # ------------------------------------------------------------------ LLMs

    def _look_up(self, spec: RunSpec, task: str) -> None:
        """What the store has, before lengths are taken from it."""
        if spec.method not in WITH_COMMUNITIES:
            return
        shared = self._pool(spec)
        shared.docs[task] = docs_of(self._tasks.of(spec)[task], spec.limit)
        shared.asked.look_up(self._tasks.queries(spec, task))

    def _pool(self, spec: RunSpec) -> _Shared:
        settings = parse(spec.method, spec.model_args())
        key = pool_key(settings, spec.metadata)
        if key not in self._pools:
            default = "embedded" if settings.llm == "embedded" else "perspective"
            name = settings.communities or default
            taken = sum(shared.name.split(" (")[0] == name for shared in self._pools.values())
            named = f"{name} ({taken + 1})" if taken else name
            self._pools[key] = _Shared(Asked(reach(settings)), named, spec)
        return self._pools[key]

    def _expected(self, spec: RunSpec, task: str) -> Lengths:
        """With the lengths of messages that are stored."""
        own = self._lengths(spec, task)
        if spec.method not in WITH_COMMUNITIES:
            return own
        found, n = self._pool(spec).asked.measured()
        return own.with_messages(found, f"lengths of messages: those of {n:,} stored ones")

    def _of_run(self, spec: RunSpec, task: str) -> list[Planned]:
        llm, loaded = self._described(spec), self._tasks.of(spec)[task]
        lengths = self._expected(spec, task)
        docs = docs_of(loaded, spec.limit)
        work, most = (self._work(spec, task, llm, lengths, upper) for upper in (False, True))
        self._note(spec, llm, lengths, loaded, work)
        engine = llm.kind == "engine"
        row = Planned(
            LLM, llm.card, spec.label, task, docs, work, most, spec.method, spec.llm.name,
            llm.local, rows_of_a_batch(self._batch, spec.llm.llm, engine), not engine,
        )  # fmt: skip
        pairs = self._entailment.of_run(spec, loaded, docs, lengths, most.limit)
        return [row, *(Planned(ENTAILMENT, *own, method=spec.method, llm=spec.llm.name) for own in pairs)]  # fmt: skip

    def _work(
        self, spec: RunSpec, task: str, llm: Described, lengths: Lengths, upper: bool
    ) -> Work:
        shared = self._pool(spec) if spec.method in WITH_COMMUNITIES else None
        settings = {k: v for k, v in spec.settings.items() if k != "communities"}
        key = (
            spec.method, task, llm.identity, spec.llm.chat, spec.limit, repr(settings), repr(spec.metadata),
            repr(spec.gen_kwargs), id(shared), repr(lengths), upper,
        )  # fmt: skip
        if key not in self._known:
            pool = StandInPool(shared.asked, task, lengths, upper) if shared else None
            self._known[key] = dry_run(spec, task, self._tasks, llm, pool, lengths, upper)
        return self._known[key]

    # ------------------------------------------------------------------ messages

    def _messages(self, shared: _Shared) -> list[Planned]:
        """One row a task and base model, of the messages that are not in the store."""
        asked, found = shared.asked, []
        seen: set[tuple[str, int, int]] = set()
        for task, docs in shared.docs.items():
            wanted = {k: q for k, q in asked.all[task].items() if k not in seen}
            chosen = {
                (prompt, sample): query
                for (prompt, sample), query in asked.one[task].items()
                if (prompt, 0, sample) not in seen and (prompt, 0, sample) not in wanted
            }
            seen |= set(wanted)
            for base, members in by_base(asked.reach.communities).items():
                rows = Writing(asked, members, self._expected(shared.spec, task))
                own = {key: query for key, query in wanted.items() if key[1] in members}
                share = len(members) / len(asked.reach.communities)
                found.append(rows.row(base, shared.name, task, docs, own, chosen, share))
        return [row for row in found if row.needed.usage.calls]

    # ------------------------------------------------------------------ notes

    def _note(self, spec: RunSpec, llm: Described, lengths: Lengths, task: Any, work: Work) -> None:
        own = set()
        if spec.method in WITH_COMMUNITIES and not self._pool(spec).asked.reach.pool.exported:
            own.add("message")
        if task.OUTPUT_TYPE == "generate_until":
            own.add("response")
        if spec.method == "moe" or (work.generated and task.OUTPUT_TYPE != "generate_until"):
            own.add("reply")
        for note in (*llm.notes, *assumptions(lengths, frozenset(own)), *_of_listening(spec, llm)):
            self._notes[note] = None

    def _all_notes(self, specs: Sequence[RunSpec]) -> list[str]:
        notes = [*self._notes, *self._tasks.notes]
        counted: dict[str, list[str]] = defaultdict(list)
        for spec in specs:
            llm = self._described(spec)
            if llm.card.name not in counted[llm.how()]:
                counted[llm.how()].append(llm.card.name)
        notes += [f"tokens by {how}: {', '.join(names)}" for how, names in counted.items()]
        for shared in self._pools.values():
            if shared.asked.reach.problem:
                notes.append(
                    f"communities={shared.name}: none of its messages counts as stored, since its adapters are not "
                    f"here ({shared.asked.reach.problem})"
                )
        if any("three characters" in note for note in notes):
            notes.append(
                "three characters a token is what a run counts without a tokenizer; English has about 4.85, so real "
                "tokens and money are rather less"
            )
        return notes
