"""One table of methods by tasks, with the baseline rows and 95 % intervals, from lm-eval's samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from statistics import fmean
from typing import Any

from pluralism_eval.data.sources import short_name
from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.metrics.metric import Metric
from pluralism_eval.metrics.options import majority_distances, majority_match, point_mass
from pluralism_eval.metrics.summary import Mean, interval
from pluralism_eval.report import tabular
from pluralism_eval.scoring import metrics_of

Samples = Sequence[Mapping[str, Any]]
"""lm-eval's logged samples of one task: one mapping a doc."""


@dataclass(frozen=True)
class Column:
    """One headline score, and what its baselines get."""

    task: str
    title: str
    metric: str
    baselines: Callable[[Samples], dict[str, float]]
    number: Callable[[Mapping[str, Any]], float] | None = None
    """A doc's own score, where the score is the mean of such: what paired tests compare."""

    @property
    def of(self) -> Metric:
        """What the score is."""
        return next(m for m in metrics_of(short_name(self.task)) if m.name == self.metric)


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
        "pluralism_overton_nli", "Overton: value coverage", "coverage",
        lambda samples: {"the query itself as response": fmean(s["coverage_echo"] for s in samples)},
        _own("coverage"),
    ),
    Column(
        "pluralism_steerable_vk", "Steerable VK: accuracy", "acc", _vk_accuracy_baselines,
        lambda s: float(s["acc"][0] == s["acc"][1]),
    ),
    Column("pluralism_steerable_vk", "Steerable VK: balanced acc.", "balanced_acc", _vk_baselines),
    Column(
        "pluralism_steerable_opinionqa", "Steerable OpinionQA: match", "match", _match_baselines,
        _own("match"),
    ),
    Column(
        "pluralism_distributional_moralchoice", "Distr. MoralChoice: J-S", "jsd", _distance_baselines,
        _own("jsd"),
    ),
    Column(
        "pluralism_distributional_globalopinionqa", "Distr. GlobalOpinionQA: J-S", "jsd",
        _distance_baselines, _own("jsd"),
    ),
)  # fmt: skip


def overview(runs: Mapping[str, Mapping[str, Samples]], section: str = "") -> tabular.Table:
    """The headline scores that all systems have, below the baselines.

    Args:
        runs: system → task → samples, all over the same docs.
        section: the LLM that the systems share.
    """
    columns = [c for c in COLUMNS if all(c.task in tasks for tasks in runs.values())]
    first = next(iter(runs.values()))
    baselines = [c.baselines(first[c.task]) for c in columns]
    heads = tuple(
        tabular.Column(c.title, c.of.higher_is_better, 3, c.task, c.metric) for c in columns
    )
    constants = [(name, [own.get(name) for own in baselines]) for name in BASELINES]
    rows = [
        tabular.Row(name, tuple(None if v is None else tabular.Number(v) for v in own), "baseline")
        for name, own in constants
        if any(v is not None for v in own)
    ]
    systems = [
        tabular.Row(name, tuple(_number(c, tasks[c.task]) for c in columns), section=section)
        for name, tasks in runs.items()
    ]
    counts = {c.task.removeprefix("pluralism_"): len(first[c.task]) for c in columns}
    docs = ", ".join(f"{task} {n}" for task, n in counts.items())
    return tabular.Table(
        "overview", "Headline scores", heads, (*rows, *tabular.best_of(systems, heads)),
        (f"docs: {docs}", *_unread(runs)),
    )  # fmt: skip


def _number(column: Column, samples: Samples) -> tabular.Number:
    return tabular.Number(*measured(column, samples), n=len(samples))


def _unread(runs: Mapping[str, Mapping[str, Samples]]) -> list[str]:
    """Answers that could not be read: they score as uniform, or wrong."""
    shares = {
        f"{system} {task.removeprefix('pluralism_')} {share:.0%}"
        for system, tasks in runs.items()
        for task, samples in tasks.items()
        if (share := fmean(s.get("unparsed", 0.0) for s in samples))
    }
    return [f"answers that could not be read: {', '.join(sorted(shares))}"] if shares else []


def measured(column: Column, samples: Samples) -> tuple[float, float, float]:
    """(score, ends of its 95 % interval), clustered by question or situation."""
    summary, items = column.of.summary, [s[column.metric] for s in samples]
    return summary(items), *interval(summary, items, [s["doc"]["cluster"] for s in samples])


def cell(score: tuple[float, float, float]) -> str:
    """``0.123 [0.10, 0.15]``; no interval where there is only one cluster."""
    value, low, high = score
    return f"{value:.3f}" if isnan(low) else f"{value:.3f} [{low:.2f}, {high:.2f}]"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table of anybody's text, the head first; readable in a terminal as well."""
    return tabular.grid([[tabular.inert(cell) for cell in row] for row in rows])
