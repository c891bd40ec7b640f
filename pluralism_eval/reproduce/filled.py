"""The paper's tables, filled in with anybody's runs: baselines, intervals, significance, best in bold."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pluralism_eval import heard
from pluralism_eval.data.sources import short_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.classification import EITHER
from pluralism_eval.metrics.metric import Metric
from pluralism_eval.metrics.statistics import compare, holm
from pluralism_eval.report.comparison import check_same_docs
from pluralism_eval.report.table import BASELINES
from pluralism_eval.report.tabular import Column, Number, Row, Table, best_of
from pluralism_eval.reproduce import paper
from pluralism_eval.reproduce.targets import (
    OQA,
    OURS,
    PAPER_METHODS,
    TARGETS,
    VK,
    Score,
    Target,
)
from pluralism_eval.results import Run
from pluralism_eval.scoring import metrics_of, scores_of
from pluralism_eval.tasks import headlines

FILLED = ("table1", "table2", "table3", "table10", "table6")
LEVEL = 0.05
CONSTANT = ("uniform", "always first option", "always the option shown first", "majority")
_RESAMPLES = 1999
_ENTROPY_OF_PEOPLE = Score("entropy of people", OQA, "gold_entropy", ())


@dataclass(frozen=True)
class _Line:
    """One system of a table."""

    label: str
    run: Run


def tables(runs: Mapping[str, Run]) -> list[Table]:
    """Headline scores, and each of the paper's tables that the runs have scores of.

    Args:
        runs: label → run. Runs of one LLM are a section of each table; where the same docs were
            answered, a star says which systems differ from modular_pluralism.
    """
    sections = by_llm(runs)
    found = [_overviews(sections)]
    found += [_filled(TARGETS[name], sections) for name in FILLED]
    return [table for table in found if table.columns and table.rows]


def by_llm(runs: Mapping[str, Run]) -> dict[str, list[_Line]]:
    """LLM → its systems, in order; labels without the LLM's name, which they begin with."""
    sections: dict[str, list[_Line]] = {}
    for label, run in runs.items():
        short = label.removeprefix(f"{run.llm}: ")
        sections.setdefault(run.llm, []).append(_Line(short, run))
    return sections


def labelled(runs: Sequence[Run]) -> dict[str, Run]:
    """Runs by labels that tell them apart: method, pool and LLM where they differ, else a number."""
    several = len({run.llm for run in runs}) > 1
    pools = {(run.llm, run.name): set[str]() for run in runs}
    for run in runs:
        pools[run.llm, run.name].add(run.pool)
    found: dict[str, Run] = {}
    for run in runs:
        pool = f" ({run.pool})" if len(pools[run.llm, run.name]) > 1 and run.pool else ""
        label = f"{run.llm}: {run.name}{pool}" if several else f"{run.name}{pool}"
        n = sum(known == label or known.startswith(f"{label} #") for known in found)
        found[f"{label} #{n + 1}" if n else label] = run
    return found


# ---------------------------------------------------------------------- headline scores


def _overviews(sections: Mapping[str, Sequence[_Line]]) -> Table:
    """One table over all LLMs; a system that lacks a task has no number there."""
    columns = [
        c
        for c in headlines()
        if any(c.task in line.run.samples for own in sections.values() for line in own)
    ]
    heads = tuple(Column(c.title, c.of.higher_is_better, 3, c.task, c.metric) for c in columns)
    scores = [Score(c.title, c.task, c.metric, ()) for c in columns]
    title = "Headline scores of the five tasks"
    return _table("overview", title, heads, scores, sections, lambda llm: [])


def _filled(target: Target, sections: Mapping[str, Sequence[_Line]]) -> Table:
    scores = [*target.scores, *([_ENTROPY_OF_PEOPLE] if target.name == "table6" else [])]
    present = {task for own in sections.values() for line in own for task in line.run.samples}
    scores = [score for score in scores if score.task in present]
    heads = tuple(
        Column(
            score.title,
            _better(target, score),
            1 if score.scale == 100 else 3,
            score.task,
            score.metric,
        )
        for score in scores
    )
    title = f"{target.name.replace('table', 'Table ')}. {target.title}"
    return _table(
        target.name, title, heads, scores, sections, partial(_printed, target=target, scores=scores)
    )


def _better(target: Target, score: Score) -> bool | None:
    return None if target.name == "table6" else _metric(score).higher_is_better


def _table(
    name: str,
    title: str,
    heads: tuple[Column, ...],
    scores: Sequence[Score],
    sections: Mapping[str, Sequence[_Line]],
    printed: Callable[[str], list[Row]],
) -> Table:
    rows: list[Row] = []
    starred = tested = False
    for llm, lines in sections.items():
        systems = [
            Row(line.label, tuple(_number(line.run, score) for score in scores), section=llm)
            for line in lines
        ]
        systems, found = _starred(systems, lines, scores)
        starred, tested = starred or bool(found), tested or found is not None
        rows += [*best_of(systems, heads), *printed(llm)]
    lines = [line for own in sections.values() for line in own]
    baselines = _baselines(lines, scores)
    notes = [
        _docs(lines, scores),
        "in brackets: 95 % intervals by bootstrap over questions or situations; bold: the best of a section",
    ]
    if tested:
        notes.append(
            f"* differs from {OURS} on the same docs: paired test, p < {LEVEL} after Holm's correction over the table"
            + ("" if starred else " (none does)")
        )
    notes += _listening(sections)
    if any(score.metric.startswith("macro_f1") for score in scores):
        notes.append("macro-F1 is no mean over docs: not tested")
    unbeaten = _unbeaten(baselines, rows, heads)
    if unbeaten:
        notes.append(f"no system is better than a constant answer in: {', '.join(unbeaten)}")
    return Table(name, title, heads, (*baselines, *rows), tuple(notes))


def _listening(sections: Mapping[str, Sequence[_Line]]) -> list[str]:
    """One sentence an LLM: whether its answers move with its messages at all."""
    found: dict[str, None] = {}
    for llm, lines in sections.items():
        rows = [line.run.ours.get("listening") or {} for line in lines]
        measured = [(row, own) for row in rows if (own := heard.figures(row))]
        for row, own in measured:
            name = "this LLM" if len(sections) == 1 else llm
            how = (
                f"readout {row.get('readout')}{' in the chat template' if row.get('chat') else ''}"
            )
            found[f"{heard.sentence(own, name)} ({how}, {own['quoted'].n} probes)"] = None
        if not measured and any(rows):
            found[f"whether {llm or 'this LLM'} moves with its messages was not measured"] = None
    return list(found)


def _docs(lines: Sequence[_Line], scores: Sequence[Score]) -> str:
    """How many docs each task has; of every system where they differ."""
    found = []
    for task in dict.fromkeys(score.task for score in scores):
        counts = {
            line.label: len(line.run.samples[task]) for line in lines if task in line.run.samples
        }
        same = len(set(counts.values())) == 1
        shown = (
            f"{next(iter(counts.values())):,}"
            if same
            else ", ".join(f"{k} {n:,}" for k, n in counts.items())
        )
        found.append(f"{task.removeprefix('pluralism_')} {shown}")
    return f"docs: {'; '.join(found)}"


def _unbeaten(baselines: Sequence[Row], rows: Sequence[Row], heads: Sequence[Column]) -> list[str]:
    """Columns in which a constant answer is at least as good as every system."""
    found = []
    for i, head in enumerate(heads):
        constant = [c.value for row in baselines if row.label in CONSTANT and (c := row.cells[i])]
        systems = [c.value for row in rows if row.kind == "system" and (c := row.cells[i])]
        systems = [value for value in systems if not math.isnan(value)]
        if not constant or not systems or head.higher_is_better is None:
            continue
        better = (
            max(systems) > max(constant) if head.higher_is_better else min(systems) < min(constant)
        )
        found += [] if better else [head.title]
    return found


def _number(run: Run, score: Score) -> Number | None:
    if score.task not in run.samples:
        return None
    s = next(s for s in scores_of(run)[score.task] if s.name == score.metric)
    return Number(s.value * score.scale, s.low * score.scale, s.high * score.scale, s.n)


def _metric(score: Score) -> Metric:
    return next(m for m in metrics_of(short_name(score.task)) if m.name == score.metric)


def _printed(llm: str, target: Target, scores: Sequence[Score]) -> list[Row]:
    """The paper's rows, where it has an LLM of that name."""
    if llm not in paper.models(target.name):
        return []
    model, _, alignment = llm.partition("/")
    rows = []
    for method, key in PAPER_METHODS.items():
        values = {"alignment": alignment, "row": key, "model": model}
        path = [values[part] for part in target.path]
        cells = [paper.printed(target.name, [*path, *score.keys]) for score in scores]
        numbers = tuple(None if v is None else Number(v) for v in cells)
        rows.append(Row(f"{method}, as printed", numbers, "paper", llm))
    return rows


# ---------------------------------------------------------------------- baselines


def _baselines(lines: Sequence[_Line], scores: Sequence[Score]) -> list[Row]:
    """What constant answers and people get on the docs of the first run that has the task."""
    found = [_baselines_of(lines, score) for score in scores]
    return [
        Row(name, tuple(Number(own[name]) if name in own else None for own in found), "baseline")
        for name in BASELINES
        if any(name in own for own in found)
    ]


_VK_ROWS = {"uniform": "uniform", "always first option": "first", "majority": "majority"}


def _baselines_of(lines: Sequence[_Line], score: Score) -> dict[str, float]:
    run = next((line.run for line in lines if score.task in line.run.samples), None)
    if run is None or score.metric.endswith("entropy"):
        return {}
    samples = run.samples_of(score.task)
    if score.task == VK:
        known = {s.name: s.value for s in scores_of(run)[VK]}
        names = {row: f"{score.metric}_{suffix}" for row, suffix in _VK_ROWS.items()}
        own = {row: known[name] * score.scale for row, name in names.items() if name in known}
        if score.metric == "balanced_acc":
            own["uniform"] = score.scale / 3
        return own
    items = [sample[score.metric] for sample in samples]
    numbers = _metric(score).summary.numbers(items)
    chosen = [samples[i] for i, _ in numbers] if numbers else []
    column = next(c for c in headlines() if c.task == score.task)
    return {k: v * score.scale for k, v in column.baselines(chosen).items()} if chosen else {}


# ---------------------------------------------------------------------- significance


def _starred(
    rows: list[Row], lines: Sequence[_Line], scores: Sequence[Score]
) -> tuple[list[Row], set[tuple[int, int]] | None]:
    """``rows`` with stars, and the starred cells; None where nothing could be tested."""
    ours = next((i for i, line in enumerate(lines) if line.run.name == OURS), None)
    if ours is None:
        return rows, None
    p_values: dict[tuple[int, int], float] = {}
    for i, line in enumerate(lines):
        for k, score in enumerate(scores):
            p = None if i == ours else _p_value(lines[ours], line, score)
            if p is not None:
                p_values[i, k] = p
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    significant = {place for place, p in corrected.items() if p < LEVEL}

    def cell(i: int, k: int, number: Number | None) -> Number | None:
        return replace(number, mark="*") if number and (i, k) in significant else number

    starred = [
        replace(row, cells=tuple(cell(i, k, number) for k, number in enumerate(row.cells)))
        for i, row in enumerate(rows)
    ]
    return starred, significant if p_values else None


def _p_value(ours: _Line, other: _Line, score: Score) -> float | None:
    """None: nothing to compare (a task that one lacks, other docs, a score without a doc's own number)."""
    if any(score.task not in line.run.samples for line in (ours, other)):
        return None
    first, second = (line.run.samples_of(score.task) for line in (ours, other))
    try:
        check_same_docs(score.task, ours.label, other.label, first, second)
    except PluralismError:
        return None
    a, b = _numbers(first, score), _numbers(second, score)
    if not a or not b or [i for i, _ in a] != [i for i, _ in b]:
        return None
    clusters = [first[i]["doc"]["cluster"] for i, _ in a]
    if len(set(clusters)) < 2:
        return None
    return compare([v for _, v in a], [v for _, v in b], clusters, _RESAMPLES).p_value


def _numbers(samples: Sequence[Mapping[str, Any]], score: Score) -> list[tuple[int, float]] | None:
    """(place of a doc, its number) of which the score is the mean; None if there are none.

    Balanced accuracy is such a mean too: a right answer counts n / (classes · docs of its class).
    """
    items = [sample[score.metric] for sample in samples]
    if score.task != VK or not score.metric.removesuffix("_binary").endswith("acc"):
        return _metric(score).summary.numbers(items)
    kept = [
        (i, item[0], float(item[0] == item[1]))
        for i, item in enumerate(items)
        if not (score.metric.endswith("_binary") and item[0] == EITHER)
    ]
    if not score.metric.startswith("balanced"):
        return [(i, right) for i, _, right in kept]
    gold = [label for _, label, _ in kept]
    weight = {label: len(gold) / (len(set(gold)) * gold.count(label)) for label in set(gold)}
    return [(i, right * weight[label]) for i, label, right in kept]
