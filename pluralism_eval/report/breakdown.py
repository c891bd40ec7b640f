"""One task's headline score for every group that its docs have, with each group's own baselines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.metrics.metric import kind_of_value
from pluralism_eval.metrics.options import TABLE3_COUNTRIES, table3_country
from pluralism_eval.presets import get_preset
from pluralism_eval.report.table import BASELINES, COLUMNS, Samples, cell, measured

Sample = Mapping[str, Any]


def _country(sample: Sample) -> str:
    doc = sample["doc"]
    substring = get_preset(doc["pluralism"]["preset"]).country_substring
    return table3_country(doc["group"], substring)


def _group(sample: Sample) -> str:
    return str(sample["doc"]["group"])


def _group_and_attribute(sample: Sample) -> str:
    return f"{sample['doc']['group']}: {sample['doc']['pluralism']['attribute']}"


_GROUPS: dict[str, tuple[tuple[str, Callable[[Sample], str]], ...]] = {
    "pluralism_steerable_vk": (("value, right or duty", kind_of_value),),
    "pluralism_steerable_opinionqa": (
        ("category (Table 2)", _group), ("group", _group_and_attribute),
    ),
    "pluralism_distributional_moralchoice": (("ambiguity (Table 10)", _group),),
    "pluralism_distributional_globalopinionqa": (("country (Table 3 first)", _country),),
}  # fmt: skip


def group_names(task: str, sample: Sample) -> list[str]:
    """The groups that a doc counts for; [] where docs have none."""
    return [group(sample) for _, group in _GROUPS.get(task, ())]


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
    column = next(c for c in COLUMNS if c.task == task)
    tables = {}
    for title, group in _GROUPS.get(task, ()):
        parts: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            parts[group(sample)].append(sample)
        order = sorted(parts, key=lambda name: (name not in TABLE3_COUNTRIES, name))
        tables[title] = [
            GroupScore(
                name, len(parts[name]), measured(column, parts[name]), column.baselines(parts[name])
            )
            for name in order
        ]
    return tables


def breakdown_rows(task: str, title: str, groups: Sequence[GroupScore]) -> list[list[str]]:
    """Rows of cells, the header first."""
    column = next(c for c in COLUMNS if c.task == task)
    shown = [b for b in BASELINES if any(b in group.baselines for group in groups)]
    return [[title, "docs", column.title, *(f"({b})" for b in shown)]] + [
        [g.name, str(g.docs), cell(g.score)]
        + [f"{g.baselines[b]:.3f}" if b in g.baselines else "–" for b in shown]
        for g in groups
    ]
