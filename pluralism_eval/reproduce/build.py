"""From a target and LLMs to runs, and from finished runs to the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pluralism_eval import progress
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.reproduce import cells, patching
from pluralism_eval.reproduce.cells import Cell
from pluralism_eval.reproduce.targets import MC, POOLS, Row, Target
from pluralism_eval.results import Run
from pluralism_eval.study import RunSpec, StudyLLM, execute

EMBEDDED_LIMIT = 12
EMBEDDED_MESSAGE_TOKENS = 72
EMBEDDED_RESPONSE_TOKENS = 96


@dataclass(frozen=True)
class Options:
    """What all runs of a study share; None: the paper's, or for the embedded model what it can do."""

    data: str | None = None
    nli: str | None = None
    limit: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    gen_kwargs: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int | str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Entry:
    """A row of a target for one LLM, and the run that fills it."""

    row: Row
    spec: RunSpec


def entries(target: Target, llms: Sequence[StudyLLM], options: Options) -> list[Entry]:
    """The runs that ``target`` needs, LLM by LLM."""
    return [Entry(row, _spec(target, row, llm, options)) for llm in llms for row in target.rows]


def _spec(target: Target, row: Row, llm: StudyLLM, options: Options) -> RunSpec:
    small = llm.llm == "embedded"
    pools = POOLS["embedded" if small else "paper"]
    settings: dict[str, Any] = {"communities": pools[""]}
    if small:
        settings["message_max_tokens"] = EMBEDDED_MESSAGE_TOKENS
    if MC in target.tasks and target.as_printed:
        settings["orders"] = 1
    settings |= options.settings
    if row.pool:
        settings["communities"] = pools.get(row.pool, row.pool)  # the row is the pool
    gen_kwargs = {"max_gen_toks": EMBEDDED_RESPONSE_TOKENS} if small else {}
    return RunSpec(
        label=row.label,
        method=row.method,
        llm=llm,
        tasks=target.tasks,
        settings=settings,
        metadata={
            "data": options.data or ("sample" if small else "authors"),
            "nli": options.nli or ("embedded" if small else target.nli),
        },
        gen_kwargs=options.gen_kwargs or gen_kwargs,
        limit=options.limit or (EMBEDDED_LIMIT if small else None),
    )


def run_all(
    found: Sequence[Entry], output: Path, options: Options, report: Any = print
) -> list[tuple[Entry, Run]]:
    """Every run, in this order, checked together before the first begins.

    Of each LLM's runs those that need all messages go first: they write them in one go, and the others find theirs.
    """
    for entry in found:
        entry.spec.check()
    llms = [entry.spec.llm for entry in found]

    def turn(i: int) -> tuple[int, bool]:
        return llms.index(llms[i]), found[i].spec.method != "modular_pluralism"

    done = {}
    held: HarnessLLM | None = None  # runs with one LLM share the loaded model
    for n, i in enumerate(sorted(range(len(found)), key=turn), 1):
        entry = found[i]
        known = entry.spec.finished(output)
        where = f" (finished before, read from {entry.spec.folder(output)})" if known else ""
        report(f"[{n}/{len(found)}] {entry.spec.llm.name}: {entry.row.label}{where}")
        progress.step(n, len(found), entry.row.label)
        if not known:
            held = held_llm(entry.spec, options)
        run = execute(entry.spec, output, options.batch_size, options.device)
        done[i] = run
    del held
    return [(entry, done[i]) for i, entry in enumerate(found)]


def held_llm(spec: RunSpec, options: Options) -> HarnessLLM:
    """The LLM of ``spec``, to be kept by whoever runs it more than once."""
    from pluralism_eval.planning.pilot import held  # takes lm-eval in

    return held(spec, options.batch_size, options.device)


def cells_of(target: Target, done: Sequence[tuple[Entry, Run]]) -> list[Cell]:
    """Every cell of the table."""
    return [
        cells.cell(target, entry.row, score, entry.spec, run)
        for entry, run in done
        for score in target.scores
    ]


def tables_of(
    target: Target, done: Sequence[tuple[Entry, Run]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """LLM → row → task → samples: what :func:`report.table.build` takes."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for entry, run in done:
        samples = {task: run.samples_of(task) for task in target.tasks}
        found.setdefault(entry.spec.llm.name, {})[entry.row.label] = samples
    return found


def patches_of(
    target: Target, done: Sequence[tuple[Entry, Run]]
) -> dict[str, dict[str, list[patching.Delta]]]:
    """LLM → task → changes per group from the first row's pool."""
    return {
        llm: {
            task: patching.deltas(task, {row: tasks[task] for row, tasks in by_row.items()})
            for task in target.tasks
        }
        for llm, by_row in tables_of(target, done).items()
    }
