"""From the values of docs to one score: callables that lm-eval takes as aggregations.

A value is a number, ``(group, number)``, or whatever :class:`Of` is given a function for. Where a
score is a mean of numbers, ``numbers`` says of which docs' numbers, so that its uncertainty needs no
resampling.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, Protocol

import numpy as np
from scipy.stats import bootstrap

from pluralism_eval.metrics.statistics import (
    bootstrap_interval,
    mean_interval,
    members,
    standard_error,
)

NAN = float("nan")


class Summary(Protocol):
    """A score over docs."""

    def __call__(self, items: Sequence[Any]) -> float: ...

    def numbers(self, items: Sequence[Any]) -> list[tuple[int, float]] | None:
        """(index of the doc, its number) of which the score is the mean; None if it is no mean."""
        ...


class Mean:
    """Mean over docs, or over those of one group. NaN values are left out; NaN if none is left."""

    def __init__(self, group: str | None = None) -> None:
        self.group = group

    def __call__(self, items: Sequence[Any]) -> float:
        kept = self.numbers(items)
        return fmean(value for _, value in kept) if kept else NAN

    def numbers(self, items: Sequence[Any]) -> list[tuple[int, float]]:
        pairs = (
            (i, item) if self.group is None else (i, _of(item, self.group))
            for i, item in enumerate(items)
        )
        return [(i, float(value)) for i, value in pairs if not math.isnan(value)]

    def __repr__(self) -> str:
        return "mean" if self.group is None else f"mean of {self.group}"


class Of:
    """Any function of all values, by its name."""

    def __init__(self, function: Callable[[Any], float]) -> None:
        self.function = function

    def __call__(self, items: Sequence[Any]) -> float:
        return self.function(items)

    def numbers(self, items: Sequence[Any]) -> None:
        return None

    def __repr__(self) -> str:
        return self.function.__name__


class MeanOf:
    """Mean of numbers that a function makes of all docs together, one a doc; NaN without any.

    Their uncertainty is that of the mean, given what the function fitted.
    """

    def __init__(self, function: Callable[[Any], list[float]]) -> None:
        self.function = function

    def __call__(self, items: Sequence[Any]) -> float:
        numbers = self.function(items)
        return fmean(numbers) if numbers else NAN

    def numbers(self, items: Sequence[Any]) -> list[tuple[int, float]]:
        return list(enumerate(self.function(items)))

    def __repr__(self) -> str:
        return f"mean {self.function.__name__}"


class StandardError:
    """Of a score, robust to clusters; its values are ``(cluster, value of the score)``.

    Means have a closed form (:func:`standard_error`), other scores 100 bootstrap resamples.
    """

    def __init__(self, summary: Summary) -> None:
        self.summary = summary

    def __call__(self, items: Sequence[Any]) -> float:
        clusters, values = [c for c, _ in items], [v for _, v in items]
        numbers = self.summary.numbers(values)
        if numbers is not None:
            return standard_error([v for _, v in numbers], [clusters[i] for i, _ in numbers])
        groups = members(clusters, len(values))
        if len(groups) < 2:
            return NAN

        def of(chosen: np.ndarray) -> float:
            return self.summary([values[i] for c in chosen for i in groups[int(c)]])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a constant score has the error 0
            found = bootstrap(
                (np.arange(len(groups)),), of, n_resamples=100, vectorized=False,
                method="percentile", rng=np.random.default_rng(0),
            )  # fmt: skip
        return float(found.standard_error)

    def __repr__(self) -> str:
        return f"standard error of the {self.summary!r}"


def interval(
    summary: Summary, items: Sequence[Any], clusters: Sequence[Any]
) -> tuple[float, float]:
    """95 % interval of a score by bootstrap over clusters; (NaN, NaN) with fewer than two."""
    numbers = summary.numbers(items)
    if numbers is not None:
        return mean_interval([v for _, v in numbers], [clusters[i] for i, _ in numbers])
    return bootstrap_interval(items, summary, clusters, resamples=300)


def macro(items: Sequence[tuple[str, float]]) -> float:
    """Mean over groups of the group means."""
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in items:
        groups[name].append(value)
    return fmean(fmean(values) for values in groups.values()) if groups else NAN


def _of(item: tuple[str, float], group: str) -> float:
    return item[1] if item[0] == group else NAN
