"""One task's headline score for every group that its docs have, with each group's own baselines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.metrics.options import TABLE3_COUNTRIES
from pluralism_eval.report.table import BASELINES, cell, measured
from pluralism_eval.tasks import by_name, headlines
from pluralism_eval.tasks.baselines import Samples

Sample = Mapping[str, Any]


def group_names(task: str, sample: Sample) -> list[str]:
    """The groups that a doc counts for; [] where docs have none."""
    return [group.of(sample) for group in by_name(task).groups]


@dataclass(frozen=True)
class GroupScore:
    """One group's headline score."""

    name: str
    docs: int
    score: tuple[float, float, float]
    """Value and the ends of its 95 % interval; NaN with fewer than two questions."""
    baselines: dict[str, float]


def breakdowns(task: str, samples: Samples) -> dict[str, list[GroupScore]]:
    """What is grouped by → its groups, Table 3's countries first; {} where docs have no groups.

    Args:
        task: lm-eval's name.
    """
    column = next(c for c in headlines() if c.task == task)
    tables = {}
    for group in by_name(task).groups:
        parts: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            parts[group.of(sample)].append(sample)
        order = sorted(parts, key=lambda name: (name not in TABLE3_COUNTRIES, name))
        tables[group.title] = [
            GroupScore(
                name, len(parts[name]), measured(column, parts[name]), column.baselines(parts[name])
            )
            for name in order
        ]
    return tables


def breakdown_rows(task: str, title: str, groups: Sequence[GroupScore]) -> list[list[str]]:
    """Rows of cells, the header first."""
    column = next(c for c in headlines() if c.task == task)
    shown = [b for b in BASELINES if any(b in group.baselines for group in groups)]
    return [[title, "docs", column.title, *(f"({b})" for b in shown)]] + [
        [g.name, str(g.docs), cell(g.score)]
        + [f"{g.baselines[b]:.3f}" if b in g.baselines else "–" for b in shown]
        for g in groups
    ]
