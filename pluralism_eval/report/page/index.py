"""All examples as the page carries them, and the index in which they are found."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval import progress
from pluralism_eval.report.page import packing
from pluralism_eval.report.page.examples import (
    attribute_of,
    collect,
    group_of,
    headline,
    query_of,
)
from pluralism_eval.report.page.reader import KINDS, Reader, Verdicts
from pluralism_eval.results import Run
from pluralism_eval.tasks import TASKS

SEED = 0
"""Draws the examples that are kept where all would be too much."""


@dataclass(frozen=True)
class Found:
    """One example as the page carries it."""

    task: str
    doc_id: int
    query: str
    attribute: str
    group: str
    line: Mapping[str, Any]
    detail: str
    """JSON."""
    cut: int


def read_all(runs: Mapping[str, Run], verdicts: Verdicts) -> list[Found]:
    """Every example of ``runs``, with a progress bar."""
    reader = Reader(runs, verdicts)
    examples = collect(list(runs.values()))
    found = []
    with progress.bar(len(examples), "report page", "example", None) as bar:
        for example in examples:
            before = reader.texts_cut
            line, detail = reader.read(example)
            found.append(
                Found(
                    example.task, example.doc_id, query_of(example), attribute_of(example.doc), group_of(example),
                    line, packing.as_json(detail), reader.texts_cut - before,
                )
            )  # fmt: skip
            bar.update(1)
    return found


def fewer(found: Sequence[Found], kept: Sequence[int], share: float) -> list[int]:
    """A seeded sample of ``kept``, the same share of every task and at least one of it."""
    by_task: dict[str, list[int]] = defaultdict(list)
    for i in kept:
        by_task[found[i].task].append(i)
    generator = random.Random(SEED)
    drawn = [
        generator.sample(own, max(1, min(int(len(own) * share), len(own) - 1)))
        for own in by_task.values()
    ]
    return sorted(i for own in drawn for i in own)


def indexed(
    runs: Mapping[str, Run], found: Sequence[Found], n_all: int, chunks: Sequence[range]
) -> dict[str, Any]:
    """Everything that the list and its filters need; a column a property, a value an example."""
    queries, attributes, tasks = _Numbers(), _Numbers(), _Numbers()
    groups, sets = _Numbers(), _Numbers()
    columns: dict[str, list[Any]] = defaultdict(list)
    for one in found:
        columns["task"].append(tasks(one.task))
        columns["doc"].append(one.doc_id)
        columns["query"].append(queries(one.query))
        columns["attribute"].append(attributes(one.attribute))
        columns["group"].append(groups((tasks(one.task), one.group)) if one.group else -1)
        columns["measure"].append(one.line["measure"])
        columns["differ"].append(int(one.line["differ"]))
        for name in ("kinds", "selected", "odd", "entails"):
            columns[name].append(sets(tuple(one.line[name])))
    short = {task.name: task.short for task in TASKS.values()}
    return {
        "tasks": [
            dict(zip(("title", "score", "higher"), headline(task), strict=True), name=short.get(task, task))
            for task in tasks.values
        ],
        "runs": [{"label": label, "name": run.name, "llm": run.llm} for label, run in runs.items()],
        "communities": Reader(runs, {}).communities,
        "kinds": KINDS,
        "queries": [packing.shortened(query) for query in queries.values],
        "attributes": [packing.shortened(attribute) for attribute in attributes.values],
        "groups": groups.values,
        "sets": sets.values,
        "columns": columns,
        "chunks": [len(chunk) for chunk in chunks],
        "all": n_all,
    }  # fmt: skip


class _Numbers:
    """Numbers distinct values in the order in which they come."""

    def __init__(self) -> None:
        self._places: dict[Any, int] = {}

    def __call__(self, value: Any) -> int:
        return self._places.setdefault(value, len(self._places))

    @property
    def values(self) -> list[Any]:
        return list(self._places)
