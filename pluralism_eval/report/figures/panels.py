"""Panels of one score each: a row a run, its value with an interval, and baselines across the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pluralism_eval.plugin import METHODS
from pluralism_eval.report.figures.style import plain, short
from pluralism_eval.results import Run

NAN = float("nan")


@dataclass(frozen=True)
class Line:
    """A run's row in every panel."""

    label: str
    """The run's, as it was given."""
    name: str
    """Shown: its method, where that tells it apart."""
    section: str
    """Its LLM."""
    style: int
    """Which colour and marker; the same method has the same in all sections."""


@dataclass(frozen=True)
class Point:
    """One run's score."""

    value: float
    low: float = NAN
    high: float = NAN
    n: int = 0
    """Docs."""
    baselines: Mapping[str, float] = field(default_factory=dict)
    """On the same docs."""


@dataclass(frozen=True)
class Panel:
    """One score of all runs."""

    title: str
    points: tuple[Point | None, ...]
    """[n_lines]; None: the run has no such docs."""
    scale: str
    """``share`` (0 to 1) or ``distance``: panels of one scale have one axis."""
    higher_is_better: bool

    @property
    def docs(self) -> str:
        """``12 docs``, or the least and the most of the runs."""
        found = sorted({point.n for point in self.points if point})
        if not found:
            return "no docs"
        shown = f"{found[0]:,}" if len(found) < 2 else f"{found[0]:,} to {found[-1]:,}"
        return f"{shown} doc{'' if found == [1] else 's'}"


def lines(runs: Mapping[str, Run]) -> list[Line]:
    """A row a run, by LLM in order of appearance; a method that occurs twice is told apart by pool or label."""
    found: list[tuple[str, str, str]] = []
    for llm in dict.fromkeys(run.llm for run in runs.values()):
        own = {label: run for label, run in runs.items() if run.llm == llm}
        found += [(label, plain(_name(label, own)), plain(llm)) for label in own]
    fixed = {name: i for i, name in enumerate(METHODS)}
    others = [name for name in dict.fromkeys(name for _, name, _ in found) if name not in fixed]
    styles = fixed | {name: len(fixed) + i for i, name in enumerate(others)}
    return [Line(label, name, llm, styles[name]) for label, name, llm in found]


def _name(label: str, runs: Mapping[str, Run]) -> str:
    """The shortest name that only this one of the runs of an LLM has."""
    run = runs[label]
    same = [other for other in runs.values() if other.name == run.name]
    if len(same) == 1:
        return run.name
    alone = run.pool and sum(other.pool == run.pool for other in same) == 1
    return f"{run.name}, {run.pool}" if alone else label


def full_names(rows: Sequence[Line]) -> list[str]:
    """Names for sentences: with the LLM where there are several."""
    several = len({line.section for line in rows}) > 1
    return [f"{r.name} on {short(r.section, 32)}" if several else r.name for r in rows]


def rows_of(panels: Sequence[Panel], rows: Sequence[Line], first: str) -> list[list[str]]:
    """The numbers of panels, the header first; every baseline once where the runs share it."""
    found = [[first, "LLM", "run", "value", "low", "high", "docs"]]
    for panel in panels:
        pairs = [(line, p) for line, p in zip(rows, panel.points, strict=True) if p]
        seen: set[tuple[str, float]] = set()
        for _, point in pairs:
            for name, value in point.baselines.items():
                if (name, value) not in seen:
                    seen.add((name, value))
                    found.append(
                        [panel.title, "", f"({name})", number(value), "–", "–", str(point.n)]
                    )
        found += [
            [panel.title, line.section, plain(line.label), *map(number, (p.value, p.low, p.high)), str(p.n)]
            for line, p in pairs
        ]  # fmt: skip
    return found


def number(value: float) -> str:
    """``0.123``; ``–`` for NaN."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def shown(point: Point, brief: bool = False) -> str:
    """``0.123 [0.10, 0.15]``, as in tables; ``brief`` without the interval."""
    if brief or math.isnan(point.low):
        return number(point.value)
    return f"{number(point.value)} [{point.low:.2f}, {point.high:.2f}]"
