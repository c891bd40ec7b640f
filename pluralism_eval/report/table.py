"""One table of methods by tasks, with the baseline rows and 95 % intervals, from lm-eval's samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean
from typing import Any

from pluralism_eval.metrics.classification import balanced_accuracy
from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.metrics.options import majority_distances, majority_match, point_mass
from pluralism_eval.metrics.statistics import bootstrap_interval, mean_interval
from pluralism_eval.metrics.summary import Mean

Samples = Sequence[Mapping[str, Any]]
"""lm-eval's logged samples of one task: one mapping a doc."""


@dataclass(frozen=True)
class Column:
    """One score: how to read it from a doc, how to sum it up, and what the baselines get."""

    task: str
    title: str
    higher_is_better: bool
    item: Callable[[Mapping[str, Any]], Any]
    statistic: Callable[[list[Any]], float]
    baselines: Callable[[Samples], dict[str, float]]
    number: Callable[[Mapping[str, Any]], float] | None = None
    """A doc's own score, where the score is the mean of such: what paired tests compare."""


def _own(key: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda sample: float(sample[key])


BASELINES = (
    "uniform",
    "always first option",
    "always the option shown first",
    "majority",
    "other groups' mean",
    "human split-half",
    "the query itself as response",
)


def _vk_baselines(samples: Samples) -> dict[str, float]:
    gold = [s["acc"][0] for s in samples]
    constant = len(set(gold))
    return {"uniform": 1 / 3, "always first option": 1 / constant, "majority": 1 / constant}


def _vk_accuracy_baselines(samples: Samples) -> dict[str, float]:
    gold = [s["acc"][0] for s in samples]
    first = fmean(float(g == 0) for g in gold)
    return {"uniform": 1 / 3, "always first option": first, "majority": majority_match(gold)}


def _match_baselines(samples: Samples) -> dict[str, float]:
    return {
        "uniform": fmean(s["match_uniform"] for s in samples),
        "always first option": fmean(s["match_first"] for s in samples),
        "majority": majority_match([s["match_majority"] for s in samples]),
        **_people(samples, "match"),
    }


def _distance_baselines(samples: Samples) -> dict[str, float]:
    golds = [s["doc"]["gold"] for s in samples]
    return {
        "uniform": fmean(js_distance([1 / len(g)] * len(g), g) for g in golds),
        "always first option": fmean(js_distance(point_mass(0, len(g)), g) for g in golds),
        "always the option shown first": fmean(s["jsd_first_averaged"] for s in samples),
        "majority": fmean(majority_distances(golds)),
        **_people(samples, "jsd"),
    }


def _people(samples: Samples, score: str) -> dict[str, float]:
    """Rows that need other groups' answers or respondent counts; absent where the data has none."""
    rows = {"other groups' mean": f"{score}_others", "human split-half": f"{score}_split_half"}
    found = {row: Mean()([s[key] for s in samples]) for row, key in rows.items()}
    return {row: value for row, value in found.items() if not isnan(value)}


COLUMNS = (
    Column(
        "pluralism_overton_nli", "Overton: value coverage", True, _own("coverage"), fmean,
        lambda samples: {"the query itself as response": fmean(s["coverage_echo"] for s in samples)},
        _own("coverage"),
    ),
    Column(
        "pluralism_steerable_vk", "Steerable VK: accuracy", True, lambda s: tuple(s["acc"]),
        lambda pairs: fmean(float(g == p) for g, p in pairs), _vk_accuracy_baselines,
        lambda s: float(s["acc"][0] == s["acc"][1]),
    ),
    Column(
        "pluralism_steerable_vk", "Steerable VK: balanced acc.", True, lambda s: tuple(s["acc"]),
        balanced_accuracy, _vk_baselines,
    ),
    Column(
        "pluralism_steerable_opinionqa", "Steerable OpinionQA: match", True, _own("match"), fmean,
        _match_baselines, _own("match"),
    ),
    Column(
        "pluralism_distributional_moralchoice", "Distr. MoralChoice: J-S", False, _own("jsd"), fmean,
        _distance_baselines, _own("jsd"),
    ),
    Column(
        "pluralism_distributional_globalopinionqa", "Distr. GlobalOpinionQA: J-S", False, _own("jsd"),
        fmean, _distance_baselines, _own("jsd"),
    ),
)  # fmt: skip


def build(runs: Mapping[str, Mapping[str, Samples]]) -> list[list[str]]:
    """Rows of cells, the header first.

    Args:
        runs: method → task → samples, all over the same docs.
    """
    columns = [c for c in COLUMNS if all(c.task in tasks for tasks in runs.values())]
    arrow = {True: "↑", False: "↓"}
    rows = [["", *(f"{c.title} {arrow[c.higher_is_better]}" for c in columns)]]
    first = next(iter(runs.values()))
    rows.append(["docs", *(str(len(first[c.task])) for c in columns)])
    baselines = [c.baselines(first[c.task]) for c in columns]
    for name in BASELINES:
        found = [own.get(name) for own in baselines]
        if all(value is None for value in found):
            continue
        rows.append([f"({name})", *("–" if value is None else f"{value:.3f}" for value in found)])
    for method, tasks in runs.items():
        rows.append([method, *(_cell(c, tasks[c.task]) for c in columns)])
    return rows


def _cell(column: Column, samples: Samples) -> str:
    """The score, and which share of answers could not be read: those score as uniform, or wrong."""
    unread = fmean(s.get("unparsed", 0.0) for s in samples)
    return cell(measured(column, samples)) + (f", {unread:.0%} unread" if unread else "")


def measured(column: Column, samples: Samples) -> tuple[float, float, float]:
    """(score, ends of its 95 % interval), clustered by question or situation."""
    items = [column.item(s) for s in samples]
    clusters = [s["doc"]["cluster"] for s in samples]
    if column.number is not None:
        low, high = mean_interval([column.number(s) for s in samples], clusters)
    else:
        low, high = bootstrap_interval(items, column.statistic, clusters, resamples=300)
    return column.statistic(items), low, high


def cell(score: tuple[float, float, float]) -> str:
    """``0.123 [0.10, 0.15]``; no interval where there is only one cluster."""
    value, low, high = score
    return f"{value:.3f}" if isnan(low) else f"{value:.3f} [{low:.2f}, {high:.2f}]"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table; readable in a terminal as well."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
