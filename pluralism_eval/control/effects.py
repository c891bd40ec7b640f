"""Does the instrument see the effect that is there? One verdict for each score, by its paired tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.control.known import ADVERSARY, ORACLE, UNIFORM
from pluralism_eval.report.comparison import Paired, comparisons
from pluralism_eval.report.table import measured
from pluralism_eval.tasks import headlines
from pluralism_eval.tasks.baselines import Samples
from pluralism_eval.tasks.task import Column

VANILLA, OURS, SHUFFLED, EQUAL = "vanilla", "modular_pluralism", "mp, shuffled", "mp, equal weights"
PAIRS = ((OURS, VANILLA), (OURS, SHUFFLED), (OURS, EQUAL))
"""The tests of the effects: one family for Holm's correction."""
INSTRUMENT = ((ORACLE, UNIFORM), (UNIFORM, ADVERSARY))
"""The tests of the instrument alone, without any LLM: a family of their own."""
LEVEL = 0.05

Runs = Mapping[str, Mapping[str, Samples]]


@dataclass(frozen=True)
class Placed:
    """A method's score, and its place among the methods."""

    method: str
    value: float
    low: float
    high: float
    place: int
    """1 is best; equal scores share a place."""


@dataclass(frozen=True)
class Effect:
    """A verdict."""

    title: str
    detected: bool
    why: str


def columns(runs: Runs) -> list[Column]:
    """The headline scores of the town's tasks that are means over docs."""
    tasks = {task for own in runs.values() for task in own}
    return [c for c in headlines() if c.task in tasks and c.number is not None]


def placed(column: Column, runs: Runs) -> list[Placed]:
    """All methods that have the score, the best first."""
    found = {name: measured(column, own[column.task]) for name, own in runs.items() if column.task in own}  # fmt: skip
    values = [value for value, *_ in found.values()]
    if column.of.higher_is_better:
        better = {v: sum(other > v for other in values) for v in values}
    else:
        better = {v: sum(other < v for other in values) for v in values}
    rows = [Placed(name, *score, better[score[0]] + 1) for name, score in found.items()]
    return sorted(rows, key=lambda row: row.place)


def tests(runs: Runs) -> list[Paired]:
    """Those of :data:`PAIRS`, then those of :data:`INSTRUMENT`."""
    return [*comparisons(runs, PAIRS), *comparisons(runs, INSTRUMENT)]


def effects(runs: Runs, found: Sequence[Paired]) -> list[Effect]:
    """For each score: do right messages bring it nearer to the town; then: do the priors; then the instrument."""
    verdicts = []
    for column in columns(runs):
        own = {(p.first, p.second): _Signed(p, column) for p in found if p.score == column.title}
        verdicts.append(_messages(column.title, own[OURS, VANILLA], own[OURS, SHUFFLED]))
        if (OURS, EQUAL) in own:
            verdicts.append(_priors(column.title, own[OURS, EQUAL]))
        verdicts.append(_instrument(column.title, [own[pair] for pair in INSTRUMENT]))
    return verdicts


class _Signed:
    """A paired test, read so that more is better."""

    def __init__(self, paired: Paired, column: Column) -> None:
        sign = 1 if column.of.higher_is_better else -1
        self.gain = sign * paired.found.difference
        self.p = paired.p_holm
        self.better = self.gain > 0 and self.p < LEVEL
        self.worse = self.gain < 0 and self.p < LEVEL
        # not one doc differs: the interval of the differences is a point
        self.same = self.gain == 0 and paired.found.low == paired.found.high

    def __str__(self) -> str:
        return f"{self.gain:+.3f}, p {self.p:.3f}" if self.p >= 0.001 else f"{self.gain:+.3f}, p < 0.001"  # fmt: skip


def _messages(title: str, gain: _Signed, lost: _Signed) -> Effect:
    if gain.better and lost.better:
        why = f"nearer than vanilla ({gain}), than shuffled messages ({lost})"
        return Effect(title, True, why)
    if lost.worse:
        why = f"it goes against its messages: worse than with shuffled ones ({lost})"
    elif gain.worse:
        why = f"farther from the town than vanilla ({gain})"
    elif lost.same:
        why = "deaf: every answer is the same with another question's messages"
    elif not gain.better:
        why = f"not clearly nearer than vanilla ({gain}), than shuffled ({lost})"
    else:
        why = f"nearer than vanilla ({gain}), but so are shuffled messages ({lost})"
    return Effect(title, False, why)


def _priors(title: str, found: _Signed) -> Effect:
    whose = "true sizes as weights against uniform weights"
    return Effect(f"{title}, priors", found.better, f"{whose} ({found})")


def _instrument(title: str, found: Sequence[_Signed]) -> Effect:
    first, second = found
    why = f"oracle against uniform ({first}), uniform against adversary ({second})"
    return Effect(f"{title}, instrument", first.better and second.better, why)


def as_dict(runs: Runs) -> dict[str, Any]:
    """Everything that the report says."""
    found = tests(runs)
    return {
        "scores": {c.title: [vars(row) for row in placed(c, runs)] for c in columns(runs)},
        "tests": [vars(p) | {"found": vars(p.found)} for p in found],
        "effects": [vars(effect) for effect in effects(runs, found)],
    }
