"""One table of methods by tasks, with the baseline rows and 95 % intervals, from lm-eval's samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from statistics import fmean

from pluralism_eval.metrics.summary import interval
from pluralism_eval.report import tabular
from pluralism_eval.tasks import headlines
from pluralism_eval.tasks.baselines import Samples
from pluralism_eval.tasks.task import Column

BASELINES = (
    "uniform",
    "always first option",
    "always the option shown first",
    "majority",
    "other groups' mean",
    "human split-half",
    "the query itself as response",
)


def overview(runs: Mapping[str, Mapping[str, Samples]], section: str = "") -> tabular.Table:
    """The headline scores that all systems have, below the baselines.

    Args:
        runs: system → task → samples, all over the same docs.
        section: the LLM that the systems share.
    """
    columns = [c for c in headlines() if all(c.task in tasks for tasks in runs.values())]
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
