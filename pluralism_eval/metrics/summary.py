"""From the values of docs to one score: callables that lm-eval takes as aggregations.

A value is a number, ``(group, number)``, or whatever :class:`Of` is given a function for. Where a
score is a mean of numbers, ``numbers`` says of which docs' numbers, so that its uncertainty needs no
resampling.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np

from pluralism_eval.metrics.statistics import (
    group_sizes,
    mean_interval,
    percentiles,
    resampled,
    standard_error,
)

NAN = float("nan")


class Mean:
    """Mean over docs, or over those of one group. NaN values are left out; NaN if none is left."""

    def __init__(
        self,
        group: str | None = None,
        number: Callable[[Any], float] | None = None,
        name: str = "mean",
    ) -> None:
        """
        Args:
            number: what a doc's value counts as; None: the value itself.
            name: of such a mean.
        """
        self.group = group
        self.number = number
        self.name = name

    def __call__(self, items: Sequence[Any]) -> float:
        kept = self.numbers(items)
        return fmean(value for _, value in kept) if kept else NAN

    def numbers(self, items: Sequence[Any]) -> list[tuple[int, float]]:
        values: Iterable[Any] = items
        if self.group is not None:
            values = (_of(item, self.group) for item in items)
        elif self.number is not None:
            values = map(self.number, items)
        return [(i, float(value)) for i, value in enumerate(values) if not math.isnan(value)]

    def __repr__(self) -> str:
        return self.name if self.group is None else f"mean of {self.group}"


class Of:
    """Any function of all values, by its name."""

    def __init__(
        self,
        function: Callable[[Any], float],
        fast: Callable[..., np.ndarray] | None = None,
        group: Callable[[Any], Hashable] | None = None,
    ) -> None:
        """
        Args:
            fast: :func:`resampled` of this function: ``(items, clusters, n)`` → [n].
            group: of a value, where the score is a mean over few groups that every large sample has.
        """
        self.function = function
        self.group = group
        self._resampled = fast or partial(resampled, statistic=function)

    def __call__(self, items: Sequence[Any]) -> float:
        return self.function(items)

    def numbers(self, items: Sequence[Any]) -> None:
        return None

    def resampled(self, items: Sequence[Any], clusters: Sequence[Any], n: int) -> np.ndarray:
        """[n] values over resamples of whole clusters; empty for fewer than two clusters."""
        return self._resampled(items, clusters=clusters, resamples=n)

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


Summary = Mean | Of | MeanOf
"""A score over docs. ``numbers``: (index of the doc, its number) of which the score is the mean; None if it is
no mean, whose uncertainty then needs resampling."""


class StandardError:
    """Of a score, robust to clusters; its values are ``(cluster, value of the score)``.

    Means have a closed form (:func:`standard_error`), other scores 100 bootstrap resamples.
    """

    def __init__(self, summary: Summary) -> None:
        self.summary = summary

    def __call__(self, items: Sequence[Any]) -> float:
        clusters, values = [c for c, _ in items], [v for _, v in items]
        if isinstance(self.summary, Of):
            found = self.summary.resampled(values, clusters, 100)
            return float(found.std(ddof=1)) if len(found) else NAN
        numbers = self.summary.numbers(values)
        return standard_error([v for _, v in numbers], [clusters[i] for i, _ in numbers])

    def __repr__(self) -> str:
        return f"standard error of the {self.summary!r}"


def interval(
    summary: Summary, items: Sequence[Any], clusters: Sequence[Any]
) -> tuple[float, float]:
    """95 % interval of a score by bootstrap over clusters; (NaN, NaN) with fewer than two."""
    if isinstance(summary, Of):
        found = summary.resampled(items, clusters, 300 if summary.group is None else 5000)
        sizes = group_sizes(list(map(summary.group or _one, items)), clusters)
        return percentiles(found, sizes=sizes)
    numbers = summary.numbers(items)
    return mean_interval([v for _, v in numbers], [clusters[i] for i, _ in numbers])


def macro(items: Sequence[tuple[str, float]]) -> float:
    """Mean over groups of the group means."""
    groups: dict[str, list[float]] = defaultdict(list)
    for name, value in items:
        groups[name].append(value)
    return fmean(fmean(values) for values in groups.values()) if groups else NAN


def _one(item: Any) -> Hashable:
    return None


def _of(item: tuple[str, float], group: str) -> float:
    return item[1] if item[0] == group else NAN
