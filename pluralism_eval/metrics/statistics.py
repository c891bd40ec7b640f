"""Uncertainty of the scores, and whether two methods differ.

Docs about one question or situation are not independent: all of this resamples whole clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pluralism_eval.errors import PluralismError

LEVEL = 0.95
_BATCH = 500
"""Resamples in memory at a time."""
_ROUNDING = 1e-12
"""Sums that differ by less, relative to what is summed, are equal."""


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same docs, first minus second."""

    difference: float
    low: float
    """95 % interval of the difference."""
    high: float
    p_value: float
    """Two-sided; not yet corrected for other comparisons (:func:`holm`)."""
    effect: float
    """Continuous scores: d_z, the mean difference in standard deviations of the differences.
    Right/wrong scores: g, the share of disagreements won by the first, minus one half."""
    test: str
    """``paired permutation`` or ``McNemar``."""
    n_docs: int
    n_clusters: int
    binary: bool
    """Right/wrong scores."""


def bootstrap_interval(
    items: Sequence[Any],
    statistic: Callable[[list[Any]], float],
    clusters: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap over clusters, for any statistic, corrected for few clusters (:func:`widened`).

    Args:
        items: [n_docs], whatever ``statistic`` takes a list of.
        clusters: [n_docs]; None makes every doc its own.

    Returns:
        (low, high); (NaN, NaN) for fewer than two clusters.
    """
    sizes = [len(group) for group in members(clusters, len(items))]
    return percentiles(resampled(items, statistic, clusters, resamples, seed), level, sizes)


def resampled(
    items: Sequence[Any],
    statistic: Callable[[list[Any]], float],
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """[resamples] values of ``statistic``, whole clusters drawn; empty for fewer than two clusters."""
    groups = members(clusters, len(items))
    if len(groups) < 2:
        return np.empty(0)
    rng = np.random.default_rng(seed)
    own = [[items[i] for i in group] for group in groups]
    found = []
    for _ in range(resamples):
        chosen = rng.integers(0, len(own), len(own)).tolist()
        found.append(statistic([item for c in chosen for item in own[c]]))
    return np.array(found, dtype=np.float64)


def resampled_macro(
    items: Sequence[tuple[str, float]],
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> np.ndarray:
    """:func:`resampled` of the mean over groups of the means of (group, number), from sums (fast)."""
    groups = members(clusters, len(items))
    if len(groups) < 2:
        return np.empty(0)
    column = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in items))}
    sums, sizes = np.zeros((2, len(groups), 1, len(column)))
    for row, group in enumerate(groups):
        for i in group:
            name, value = items[i]
            sums[row, 0, column[name]] += value
            sizes[row, 0, column[name]] += 1
    return macro_resamples(sums, sizes, resamples, seed)[:, 0]


def macro_resamples(
    sums: np.ndarray, sizes: np.ndarray, resamples: int = 5000, seed: int = 0
) -> np.ndarray:
    """[resamples][n_scores] means over groups of the group means, whole clusters drawn.

    Args:
        sums: [n_clusters][n_scores][n_groups] of the docs' numbers.
        sizes: their number of docs, in the same shape.
    """
    found = []
    for times in _times(len(sums), resamples, seed):
        n = np.tensordot(times, sizes, 1)
        means = np.divide(np.tensordot(times, sums, 1), n, out=np.zeros_like(n), where=n > 0)
        found.append(means.sum(axis=2) / (n > 0).sum(axis=2))
    return np.concatenate(found)


def _times(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each of ``n`` clusters is drawn: [at most 500][n], together ``resamples`` rows."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BATCH):
        rows = min(_BATCH, resamples - start)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        yield times.astype(np.float64)


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    resamples: int = 5000,
    seed: int = 0,
) -> tuple[float, float]:
    """:func:`bootstrap_interval` of the mean, from the sums and sizes of the clusters (fast)."""
    return mean_intervals([values], clusters, level, resamples, seed)[0]


def mean_intervals(
    scores: Sequence[Sequence[float]],
    clusters: Sequence[Hashable] | None = None,
    level: float = LEVEL,
    resamples: int = 5000,
    seed: int = 0,
) -> list[tuple[float, float]]:
    """[n_scores] of :func:`mean_interval`, all from the same resamples of the docs that they share.

    Args:
        scores: [n_scores][n_docs].
    """
    numbers = np.asarray(scores, dtype=np.float64)
    groups = members(clusters, numbers.shape[1])
    n = len(groups)
    if n < 2:
        return [(float("nan"), float("nan"))] * len(numbers)
    sums = np.stack([numbers[:, group].sum(axis=1) for group in groups])
    sizes = np.array([len(group) for group in groups], dtype=np.float64)
    means = [times @ sums / (times @ sizes)[:, None] for times in _times(n, resamples, seed)]
    lows, highs = tails(np.concatenate(means), level, sizes)
    return list(zip(lows.tolist(), highs.tolist(), strict=True))


def standard_error(values: Sequence[float], clusters: Sequence[Hashable] | None = None) -> float:
    """Of the mean, robust to clusters: sqrt(Σ_c r_c² · C/(C-1)) / n, r_c summed residuals."""
    groups = members(clusters, len(values))
    if len(groups) < 2:
        return float("nan")
    numbers = np.asarray(values, dtype=np.float64)
    residuals = numbers - numbers.mean()
    sums = np.array([residuals[group].sum() for group in groups])
    scale = len(groups) / (len(groups) - 1)
    return float(math.sqrt((sums**2).sum() * scale) / len(numbers))


def compare(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Does the mean score of two methods differ on the same docs?

    Right/wrong scores of unclustered docs take McNemar's exact test, everything else a paired
    permutation test that swaps the two methods in whole clusters.

    Raises:
        PluralismError: scores of other numbers of docs, none, or any that is no finite number.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if len(a) != len(b) or not len(a):
        raise PluralismError(f"scores of {len(a)} and {len(b)} docs cannot be compared in pairs")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        bad = int((~np.isfinite(a - b)).sum())
        raise PluralismError(
            f"{bad} of {len(a)} pairs of scores are no finite numbers; compare the docs that both have scores of"
        )
    groups = members(clusters, len(a))
    difference = a - b
    low, high = mean_interval(difference.tolist(), clusters, seed=seed)
    binary = bool(np.isin(np.concatenate([a, b]), (0.0, 1.0)).all())
    won, lost = int((difference > 0).sum()), int((difference < 0).sum())
    if binary:
        effect = won / (won + lost) - 0.5 if won + lost else 0.0
    else:
        spread = float(difference.std(ddof=1)) if len(a) > 1 else 0.0
        effect = float(difference.mean()) / spread if spread > 0 else 0.0
    if binary and len(groups) == len(a):
        test, p_value = "McNemar", mcnemar(won, lost)
    else:
        test, p_value = "paired permutation", _permutation(a, b, groups, resamples, seed)
    return Comparison(
        float(difference.mean()), low, high, p_value, effect, test, len(a), len(groups), binary
    )


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided p-value from the docs on which exactly one of two methods is right."""
    from statsmodels.stats.contingency_tables import mcnemar as exact

    return float(exact([[0, won], [lost, 0]], exact=True).pvalue) if won + lost else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values that control the family-wise error rate, in the same order."""
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def _permutation(
    a: np.ndarray, b: np.ndarray, groups: Sequence[Sequence[int]], resamples: int, seed: int
) -> float:
    sums = np.array([[(a[group] - b[group]).sum() for group in groups]])
    return float(sign_flips(sums, resamples, seed)[0])


def sign_flips(sums: np.ndarray, resamples: int = 9999, seed: int = 0) -> np.ndarray:
    """[n_comparisons] two-sided p-values of paired permutation tests, all from the same flips of signs.

    All flips where there are at most ``resamples`` of them, else that many at random and the one observed.

    Args:
        sums: [n_comparisons][n_clusters], the summed differences of a cluster's docs.
    """
    n = sums.shape[1]
    if n < 2:
        return np.ones(len(sums))  # one cluster: either sign is as far from 0
    observed = np.abs(sums.sum(axis=1)) - _ROUNDING * np.abs(sums).sum(axis=1)
    extreme, total = np.zeros(len(sums)), 0
    for signs in _signs(n, resamples, seed):
        extreme += (np.abs(signs @ sums.T) >= observed).sum(axis=0)
        total += len(signs)
    own = 0 if 2**n <= resamples else 1
    return np.asarray((extreme + own) / (total + own))


def _signs(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Signs of ``n`` clusters, [at most 500][n]: all 2^n rows if no more than ``resamples``, else random ones."""
    if 2**n <= resamples:
        every = np.arange(2**n)[:, None] >> np.arange(n) & 1
        yield from np.array_split(1.0 - 2.0 * every, math.ceil(2**n / _BATCH))
        return
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, _BATCH):
        yield 1.0 - 2.0 * rng.integers(0, 2, (min(_BATCH, resamples - start), n))


def members(clusters: Sequence[Hashable] | None, n: int) -> list[list[int]]:
    """[n_clusters] indices of the docs of each cluster; None makes every doc its own.

    Raises:
        PluralismError: clusters of another number of docs.
    """
    if clusters is None:
        return [[i] for i in range(n)]
    if len(clusters) != n:
        raise PluralismError(f"{len(clusters)} clusters for {n} docs; every doc needs its own")
    groups: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(clusters):
        groups.setdefault(cluster, []).append(i)
    return list(groups.values())


def percentiles(
    resampled: np.ndarray,
    level: float = LEVEL,
    sizes: Sequence[float] | np.ndarray | None = None,
) -> tuple[float, float]:
    """(low, high) of the middle ``level`` of [resamples]; (NaN, NaN) of none.

    Args:
        sizes: of the clusters that were resampled: the level is :func:`widened` for them.
    """
    if not len(resampled):
        return float("nan"), float("nan")
    low, high = tails(resampled, level, sizes)
    return float(low), float(high)


def tails(
    resampled: np.ndarray, level: float, sizes: Sequence[float] | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """:func:`percentiles` of [resamples][n_scores]: ([n_scores], [n_scores])."""
    tail = (1 - (level if sizes is None else widened(level, sizes))) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


def widened(level: float, sizes: Sequence[float] | np.ndarray) -> float:
    """The level at which the percentiles of a bootstrap over few clusters hold the truth in ``level`` of cases.

    Percentiles alone hold it too rarely (0.91 for 18 clusters of 1 to 14 docs; ``pluralism-eval control simulate``):
    resampled means spread too little, and their spread is itself uncertain. Both are known where docs are
    independent: with a = sum of squared shares of the clusters and b = sum of cubed ones, the variance is too small
    by 1 - a, and has (1-a)^2 / (a - 2b + a^2) degrees of freedom; 1 - 1/n and n - 1 for n equal clusters. So the tails
    are those of Student's t, as in the expanded percentile interval (Hesterberg 2015, The American Statistician 69).

    Args:
        sizes: [n_clusters] docs; [n_clusters][n_groups] for a mean of the means of groups, whose variances add up.
    """
    from scipy.special import ndtr, stdtrit

    own = np.asarray(sizes, dtype=np.float64)
    own = own.reshape(len(own), -1)
    n = own.sum(axis=0)
    shares = own / n
    a, b = (shares**2).sum(axis=0), (shares**3).sum(axis=0)
    known = float(((1 - a) / n).sum())
    if known <= 0:  # no group has two clusters
        return level
    freedom = known**2 / float(((a - 2 * b + a**2) / n**2).sum())
    quantile = float(stdtrit(freedom, (1 - level) / 2)) * math.sqrt((1 / n).sum() / known)
    return float(1 - 2 * ndtr(quantile))


def group_sizes(
    names: Sequence[Hashable], clusters: Sequence[Hashable] | None = None
) -> np.ndarray:
    """[n_clusters][n_groups] docs of each group, of ``names`` [n_docs], in each cluster."""
    column = {name: i for i, name in enumerate(dict.fromkeys(names))}
    groups = members(clusters, len(names))
    sizes = np.zeros((len(groups), len(column)))
    for row, group in enumerate(groups):
        for i in group:
            sizes[row, column[names[i]]] += 1
    return sizes
