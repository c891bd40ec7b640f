"""Steerable tasks: whom does the LLM select, and how good are the answers given that message?

The answer follows one selected message, so what a coalition would have answered cannot be computed
without asking the LLM again; the transcript tells how often each community was selected. Comments are
always listed in pool order: a liking for a *place* in the list cannot be told from one for a community.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.faithfulness import Share, share
from pluralism_eval.results import Run
from pluralism_eval.tasks import by_name

_EXPECTED = 5  # selections a community, below which the chi-square distribution is a poor fit
_SIMULATIONS = 9999


@dataclass(frozen=True)
class Selected:
    """One community on one task, or in one group of docs."""

    count: int
    """Docs for which the LLM named it."""
    selected: Share
    """Of the docs with a selection that could be read; 1/k by chance."""
    fallbacks: int
    """Docs that got its message by the seeded fallback, since no selection could be read."""
    right: Share
    """Accuracy or match on the docs answered with its message, fallbacks included."""


@dataclass(frozen=True)
class Uniformity:
    """Pearson's test that all communities are selected alike; docs are taken as independent."""

    statistic: float
    p_value: float
    """NaN without any selection or with one community."""
    simulated: bool
    """True where fewer than five selections a community are expected: 9,999 seeded simulations."""


@dataclass(frozen=True)
class SelectionGroup:
    """Selections in one group of docs, or in all."""

    name: str
    selections: int
    """One a doc; one a reading where docs were asked in several ways."""
    fallbacks: int
    communities: dict[str, Selected]
    uniformity: Uniformity


@dataclass(frozen=True)
class TaskSelections:
    """Selections of one steerable task."""

    task: str
    score: str
    """What ``right`` is: accuracy, match."""
    total: SelectionGroup
    grouped_by: str
    groups: list[SelectionGroup]
    """By name."""


@dataclass(frozen=True)
class _Doc:
    community: str
    fallback: bool
    right: float
    cluster: str
    group: str


def selections(run: Run, task: str, names: Sequence[str]) -> TaskSelections:
    """Whom the LLM selected, over all docs that were asked and by group (VK: kind; OpinionQA: Table 2's category).

    Raises:
        PluralismError: no samples or transcript of the task, or a transcript of another run.
    """
    samples, lines = run.samples_of(task), run.transcript_of(task)
    headline, group = by_name(task).columns[0], by_name(task).groups[0]
    score = headline.title.rpartition(": ")[2]
    assert headline.number is not None
    docs = []
    for sample in samples:
        line = lines.get(int(sample["doc_id"]), {})
        if line.get("skipped"):
            continue
        picks = line.get("selections", [])
        known = bool(picks) and all(pick["community"] in names for pick in picks)
        if not known or line["mode"] != "steerable":
            raise PluralismError(
                f"{run.path}: {task} doc {sample['doc_id']} has no selection of one of {', '.join(names)} in the "
                "transcript; give the transcript that this run wrote"
            )
        docs += [
            _Doc(p["community"], bool(p["fallback"]), headline.number(sample), str(sample["doc"]["cluster"]), group.of(sample))
            for p in picks
        ]  # fmt: skip
    groups = [
        _group(name, [doc for doc in docs if doc.group == name], names)
        for name in sorted({doc.group for doc in docs})
    ]
    return TaskSelections(task, score, _group("all", docs, names), group.title, groups)


def _group(name: str, docs: Sequence[_Doc], names: Sequence[str]) -> SelectionGroup:
    chosen = [doc for doc in docs if not doc.fallback]
    clusters = [doc.cluster for doc in chosen]
    found = {}
    for community in names:
        own = [doc for doc in docs if doc.community == community]
        flags = [doc.community == community for doc in chosen]
        found[community] = Selected(
            sum(flags),
            share(flags, clusters),
            sum(doc.fallback for doc in own),
            share([doc.right for doc in own], [doc.cluster for doc in own]),
        )
    counts = [one.count for one in found.values()]
    return SelectionGroup(name, len(docs), len(docs) - len(chosen), found, uniformity(counts))


def uniformity(counts: Sequence[int], seed: int = 0) -> Uniformity:
    """Pearson's chi-square against equal counts; ``counts`` [k]."""
    n, k = sum(counts), len(counts)
    if n == 0 or k < 2:
        return Uniformity(math.nan, math.nan, False)
    expected = n / k
    statistic = float(((np.asarray(counts) - expected) ** 2).sum() / expected)
    if expected >= _EXPECTED:
        from scipy.stats import chi2

        return Uniformity(statistic, float(chi2.sf(statistic, k - 1)), False)
    drawn = np.random.default_rng(seed).multinomial(n, [1 / k] * k, _SIMULATIONS)
    simulated = ((drawn - expected) ** 2).sum(axis=1) / expected
    as_large = int((simulated >= statistic - 1e-9).sum())
    return Uniformity(statistic, (as_large + 1) / (_SIMULATIONS + 1), True)
