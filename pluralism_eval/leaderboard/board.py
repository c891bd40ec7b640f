"""Verdicts → sections of comparable rows, with ranks that respect the intervals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pluralism_eval.leaderboard import reported
from pluralism_eval.leaderboard.verify import DUPLICATE, Status, Verdict
from pluralism_eval.report.table import BASELINES
from pluralism_eval.report.tabular import NAN, Column, Number, Row
from pluralism_eval.tasks import OPINIONQA, TASKS, task_names


def all_columns() -> tuple[Column, ...]:
    """Every score that has a column, a task after the other."""
    return tuple(
        Column(c.title, c.of.higher_is_better, 3, c.task, c.metric)
        for task in TASKS.values()
        for c in task.columns
    )


_SUFFIXES = ("uniform", "first", "first_averaged", "majority", "others", "split_half", "echo")
_BASELINES = {
    row: suffix for row, suffix in zip(BASELINES, _SUFFIXES, strict=True) if suffix != "echo"
}
"""Those that the input alone gives; the echo of a query is read by a scorer."""
_COMPLETE = {
    "authors": (0, "The authors' inputs, complete"),
    "cleaned": (1, "The authors' inputs without damaged items, complete"),
    "other": (2, "Other input files, complete"),
    "sample": (3, "The sample data of this package, complete"),
}
_DATA = {
    "authors": "the authors' inputs",
    "cleaned": "the authors' inputs without damaged items",
    "other": "other input files",
    "sample": "the sample data",
}


@dataclass(frozen=True)
class Section:
    """Rows over the same kind of data; ranks do not cross it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    """Systems are verified submissions, then the paper's rows, then baselines."""
    links: Mapping[str, Path]
    """Label of a system → its folder."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Board:
    """Everything on the page."""

    sections: tuple[Section, ...]
    verified: tuple[Verdict, ...]
    duplicates: tuple[Verdict, ...]
    """Sound, but other submissions with their responses came first."""
    unverified: tuple[Verdict, ...]
    rejected: tuple[Verdict, ...]
    labels: Mapping[Path, str] = field(default_factory=dict)
    """Folder → what its row is called; distinct."""


def build(verdicts: Sequence[Verdict]) -> Board:
    """The leaderboard of ``verdicts``; only verified ones have rows."""
    kinds: dict[str, list[Verdict]] = {status: [] for status in get_args(Status)}
    for verdict in verdicts:
        kinds[verdict.status].append(verdict)
    verified = sorted(kinds["verified"], key=lambda v: (str(v.content["name"]), v.folder.name))
    labels = _labels(verified)
    parts: dict[tuple[Any, ...], dict[Path, set[str]]] = {(0, *_COMPLETE["authors"]): {}}
    for verdict in verified:
        for task, part in verdict.content["tasks"].items():
            place = _place(task, part, verdict.docs_check(task).which)
            parts.setdefault(place, {}).setdefault(verdict.folder, set()).add(task)
    sections = [
        _section(place, verified, tasks, labels)
        for place, tasks in sorted(parts.items(), key=lambda p: (not p[1], p[0]))
    ]  # fmt: skip
    return Board(
        tuple(sections), tuple(verified), tuple(kinds["duplicate"]), tuple(kinds["not verified"]),
        tuple(kinds["rejected"]), labels,
    )  # fmt: skip


def _labels(verdicts: Sequence[Verdict]) -> dict[Path, str]:
    names = Counter(str(v.content["name"]) for v in verdicts)
    longer = Counter(_longer(v) for v in verdicts)
    return {
        v.folder: str(v.content["name"]) if names[str(v.content["name"])] == 1
        else _longer(v) if longer[_longer(v)] == 1
        else f"{_longer(v)} in {v.folder.name}"
        for v in verdicts
    }  # fmt: skip


def _longer(verdict: Verdict) -> str:
    return f"{verdict.content['name']} ({verdict.content['identity'][:8]})"


def _place(task: str, part: Mapping[str, Any], which: str) -> tuple[Any, ...]:
    """(is partial, order, title): the section of one task of a submission.

    Args:
        which: of the docs of the real input.
    """
    docs, data = part["docs"], part["input"]["data"]
    fewer = task == OPINIONQA and part["input"]["damaged_dropped"] and data != "cleaned"
    if which == "all" and not fewer:
        return (0, *_COMPLETE[data])
    without = " without damaged items" if fewer else ""
    return (1, -docs["n"], f"Partial runs: of each task {which} docs of {_DATA[data]}{without}")


def _section(
    place: tuple[Any, ...],
    verified: Sequence[Verdict],
    tasks: Mapping[Path, set[str]],
    labels: Mapping[Path, str],
) -> Section:
    members = [v for v in verified if v.folder in tasks]
    own = {v.folder: {t: p for t, p in v.content["tasks"].items() if t in tasks[v.folder]} for v in members}  # fmt: skip
    known = all_columns()
    paper = reported.rows(known) if place[:2] == (0, 0) else []
    present = {task for parts in own.values() for task in parts}
    kept = [i for i, c in enumerate(known) if c.task in present or paper]
    columns = tuple(known[i] for i in kept)
    groups = {task: _groups(task, own) for task in present}
    cells = {v.folder: [_number(own[v.folder], groups, c) for c in columns] for v in members}
    for i, column in enumerate(columns):
        having = {f: p[column.task] for f, p in own.items() if column.task in p}
        answers = {f: str(part["samples"]["sha256"]) for f, part in having.items()}
        _rank(cells, i, column, {f: _key(part) for f, part in having.items()}, answers)
    rows = [Row(labels[v.folder], tuple(cells[v.folder])) for v in members]
    rows += [replace(row, cells=tuple(row.cells[i] for i in kept)) for row in paper]
    rows += _baselines(columns, members, own, groups)
    notes = [*_group_notes(groups), *_duplicate_notes(members, labels)]
    return Section(
        place[-1], columns, tuple(rows), {labels[v.folder]: v.folder for v in members},
        (*notes, *(reported.notes() if paper else ())),
    )  # fmt: skip


def _duplicate_notes(members: Sequence[Verdict], labels: Mapping[Path, str]) -> list[str]:
    """Of rows that hold responses which others hold as well."""
    return [
        f"{labels[v.folder]}: {check.seen}; ranks count them once."
        for v in members
        for check in v.checks
        if check.what == DUPLICATE
    ]


# ---------------------------------------------------------------------- what is comparable


def _key(part: Mapping[str, Any]) -> tuple[str, ...]:
    """Scores with another key were measured on other docs, or in another way."""
    setting = part["setting"]
    return (
        part["docs"]["sha256"], setting["preset"], str(setting["nli"] or ""), str(setting["nli_directions"] or ""),
    )  # fmt: skip


def _groups(task: str, own: Mapping[Path, Mapping[str, Any]]) -> dict[tuple[str, ...], str]:
    """Key → its letter; the group with most rows has none."""
    keys = [_key(parts[task]) for parts in own.values() if task in parts]
    ordered = sorted(set(keys), key=lambda key: (-keys.count(key), key))
    return {key: "" if i == 0 else f"^{_letter(i)}" for i, key in enumerate(ordered)}


def _letter(i: int) -> str:
    return chr(ord("a") + i) if i < 26 else str(i)


def _group_notes(groups: Mapping[str, Mapping[tuple[str, ...], str]]) -> list[str]:
    found = []
    for task in task_names():
        marks = groups.get(task, {})
        if len(marks) < 2:
            continue
        for key, mark in marks.items():
            scorer = f", scorer {key[2]}" if key[2] else ""
            found.append(f"{task} {mark or '(no mark)'}: docs {key[0][:8]}, preset {key[1]}{scorer}; ranks do not cross these.")  # fmt: skip
    return found


# ---------------------------------------------------------------------- cells


def _number(
    parts: Mapping[str, Any],
    groups: Mapping[str, Mapping[tuple[str, ...], str]],
    column: Column,
) -> Number | None:
    part = parts.get(column.task)
    score = part["scores"].get(column.metric) if part else None
    if part is None or score is None or score["value"] is None:
        return None
    low, high = (NAN if score[end] is None else score[end] for end in ("low", "high"))
    return Number(score["value"], low, high, score["n"], groups[column.task][_key(part)])


def _rank(
    cells: Mapping[Path, list[Number | None]],
    i: int,
    column: Column,
    keys: Mapping[Path, tuple[str, ...]],
    answers: Mapping[Path, str],
) -> None:
    """Writes the range of ranks that the intervals leave open into the marks.

    Args:
        keys: of what is comparable.
        answers: hash of all responses; copies of one submission are no rivals, and one rival to others.
    """
    ranked = {f: n for f, row in cells.items() if (n := row[i]) is not None}
    for folder, number in ranked.items():
        others = {answers[f]: n for f, n in ranked.items() if keys[f] == keys[folder]}
        rivals = [n for answer, n in others.items() if answer != answers[folder]]
        if not rivals:
            continue
        better = sum(_beats(rival, number, column) for rival in rivals)
        worse = sum(_beats(number, rival, column) for rival in rivals)
        first, last = 1 + better, len(rivals) + 1 - worse
        place = f"{first}" if first == last else f"{first}–{last}"
        cells[folder][i] = replace(
            number, mark=f"{number.mark} #{place} of {len(rivals) + 1}", best=first == last == 1
        )


def _beats(one: Number, other: Number, column: Column) -> bool:
    """Surely better: the intervals do not touch. Without intervals nothing is sure."""
    if any(math.isnan(end) for end in (one.low, other.low)):
        return False
    if column.higher_is_better:
        return one.low > other.high
    return one.high < other.low


def _baselines(
    columns: Sequence[Column],
    members: Sequence[Verdict],
    own: Mapping[Path, Mapping[str, Any]],
    groups: Mapping[str, Mapping[tuple[str, ...], str]],
) -> list[Row]:
    """What constant and human answers score on the same docs of the real input, one set of rows a group."""
    marks = list(dict.fromkeys(mark for own_marks in groups.values() for mark in own_marks.values()))  # fmt: skip
    found = []
    for mark in sorted(marks):
        for name, suffix in _BASELINES.items():
            cells = [_baseline(column, suffix, mark, members, own, groups) for column in columns]
            if any(cells):
                found.append(Row(f"{name} {mark}".strip(), tuple(cells), "baseline"))
    return found


def _baseline(
    column: Column,
    suffix: str,
    mark: str,
    members: Sequence[Verdict],
    own: Mapping[Path, Mapping[str, Any]],
    groups: Mapping[str, Mapping[tuple[str, ...], str]],
) -> Number | None:
    for verdict in members:
        part = own[verdict.folder].get(column.task)
        if part is None or groups[column.task][_key(part)] != mark:
            continue
        value, n = verdict.docs_check(column.task).baselines.get(
            f"{column.metric}_{suffix}", (NAN, 0)
        )
        if not math.isnan(value):
            return Number(value, n=n)
    return None
