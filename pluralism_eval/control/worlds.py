"""Simulated benchmarks: docs in clusters, and two methods' scores on them, of which the truth is known by formula.

A method's score of a doc is a function g of a standard normal number x, so that g alone sets the true mean:

    x = sqrt(s) (sqrt(c) U_cluster + sqrt(1-c) U_cluster,method) + sqrt(1-s) (sqrt(c) V_doc + sqrt(1-c) V_doc,method)

with standard normal U and V, s the share of the cluster, and c what both methods have in common (0.6, assumed).
g is a threshold (right or wrong), the quantiles of a beta distribution stretched over the range of the metric (J-S),
or the share of a doc's values whose own number lies below a threshold (coverage).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COMMON = 0.6
"""Share of the variance, between clusters and within, that two methods on the same docs have in common."""
FARTHEST = math.sqrt(math.log(2))
"""The largest J-S distance."""


class Method(Protocol):
    """A method's true score, and its scores on docs."""

    @property
    def share(self) -> float:
        """s: how much of its variance is that of clusters, 0 to 1."""
        ...

    @property
    def truth(self) -> float:
        """The mean score over all docs that there could be."""
        ...

    def scores(self, x: Floats, labels: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        """[...][n_docs] scores of the docs with these ``x`` and these gold labels."""
        ...


@dataclass(frozen=True)
class Binary:
    """Right with probability ``p``: OpinionQA's match."""

    p: float
    share: float

    @property
    def truth(self) -> float:
        return self.p

    def scores(self, x: Floats, labels: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        return (x < _quantile(self.p)).astype(np.float64)


@dataclass(frozen=True)
class Recalls:
    """Right with a probability for each gold label: VK's accuracy."""

    recalls: tuple[float, ...]
    shares: tuple[float, ...]
    """Of the gold labels."""
    share: float

    @property
    def truth(self) -> float:
        return math.fsum(r * s for r, s in zip(self.recalls, self.shares, strict=True))

    def scores(self, x: Floats, labels: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        thresholds = np.array([_quantile(r) for r in self.recalls])
        return (x < thresholds[labels]).astype(np.float64)


@dataclass(frozen=True)
class Balanced(Recalls):
    """The same docs, of which the mean recall is wanted: VK's balanced accuracy."""

    @property
    def truth(self) -> float:
        return math.fsum(self.recalls) / len(self.recalls)


@dataclass(frozen=True)
class Distance:
    """A beta distribution over the range of J-S distances, with this mean and standard deviation."""

    mean: float
    sd: float
    share: float

    @property
    def truth(self) -> float:
        return self.mean

    def scores(self, x: Floats, labels: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        from scipy.special import betaincinv, ndtr

        mean, variance = self.mean / FARTHEST, (self.sd / FARTHEST) ** 2
        total = mean * (1 - mean) / variance - 1
        grid = np.linspace(-6, 6, 4001)  # quantiles of a million numbers, from a table
        table = FARTHEST * betaincinv(mean * total, (1 - mean) * total, ndtr(grid))
        return np.asarray(np.interp(x, grid, table))


@dataclass(frozen=True)
class Coverage:
    """Share of a situation's values that are covered, each with probability ``p``: Overton."""

    p: float
    within: float
    """Share of the variance of a value's number that its situation explains."""
    values: tuple[int, ...]
    """Number of values of a situation with each label."""
    share: float = 0.0

    @property
    def truth(self) -> float:
        return self.p

    def scores(self, x: Floats, labels: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        from scipy.special import ndtr

        of_doc = ndtr((_quantile(self.p) - math.sqrt(self.within) * x) / math.sqrt(1 - self.within))
        n = np.array(self.values)[labels]
        return np.asarray(rng.binomial(n, of_doc) / n)


@dataclass(frozen=True)
class World:
    """Where the docs of one score come from."""

    clusters: Mapping[int, int]
    """Docs of a cluster → clusters with that many."""
    labels: tuple[float, ...] = (1.0,)
    """Shares of the gold labels (Overton: of the numbers of values)."""
    label_share: float = 0.0
    """Share of the variance of a gold label that its cluster explains."""

    def design(self, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """[n] the cluster of each doc: whole clusters at random, the last one cut."""
        every = np.repeat(list(self.clusters), list(self.clusters.values()))
        drawn = rng.choice(every, n)
        return np.repeat(np.arange(n), drawn)[:n]

    def benchmarks(
        self, methods: tuple[Method, Method], count: int, design: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> tuple[Floats, NDArray[np.int64]]:  # fmt: skip
        """([2][count][n_docs] scores of two methods, [count][n_docs] gold labels) of benchmarks with one design."""
        labels = self._labels(count, design, rng)
        of_clusters = _correlated(count, int(design.max()) + 1, rng)[..., design]
        of_docs = _correlated(count, len(design), rng)
        scores = [
            method.scores(
                math.sqrt(method.share) * cluster + math.sqrt(1 - method.share) * doc, labels, rng
            )
            for method, cluster, doc in zip(methods, of_clusters, of_docs, strict=True)
        ]
        return np.stack(scores), labels

    def _labels(
        self, count: int, design: NDArray[np.int64], rng: np.random.Generator
    ) -> NDArray[np.int64]:
        if len(self.labels) == 1:
            return np.zeros((count, len(design)), dtype=np.int64)
        clusters = rng.standard_normal((count, int(design.max()) + 1))[:, design]
        docs = rng.standard_normal((count, len(design)))
        number = math.sqrt(self.label_share) * clusters + math.sqrt(1 - self.label_share) * docs
        ends = [_quantile(p) for p in np.cumsum(self.labels)[:-1]]
        return np.searchsorted(ends, number)


def _correlated(count: int, n: int, rng: np.random.Generator) -> Floats:
    """[2][count][n] standard normal numbers, the two with correlation COMMON."""
    common = math.sqrt(COMMON) * rng.standard_normal((count, n))
    return common + math.sqrt(1 - COMMON) * rng.standard_normal((2, count, n))


def _quantile(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))
