"""Do the intervals hold the truth, and do the tests err as often as they say? On simulated benchmarks.

Every score goes through the functions that reports call: ``mean_intervals``, ``sign_flips``, ``mcnemar``, ``holm``.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pluralism_eval.control.scores import SCORES, Score
from pluralism_eval.control.worlds import Floats
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.statistics import (
    LEVEL,
    holm,
    macro_resamples,
    mcnemar,
    mean_intervals,
    percentiles,
    sign_flips,
    tails,
)

DOCS = (50, 200, 500)
GOAL = (0.94, 0.96)
ALPHA = 0.05
_AT_ONCE = 200
"""Benchmarks of one design (which docs are of one cluster)."""

Intervals = Callable[[Floats, Sequence[int], int], Floats]
"""([n_benchmarks][n_docs] scores, [n_docs] clusters, seed) → [n_benchmarks][2]."""
Test = Callable[[Floats, Floats, Sequence[int], int], Floats]
"""([n_benchmarks][n_docs] of either method, [n_docs] clusters, seed) → [n_benchmarks] p-values."""


@dataclass(frozen=True)
class Row:
    """One score at one number of docs. All shares are of simulated benchmarks."""

    score: str
    docs: int
    clusters: float
    """Mean number of clusters."""
    held: float
    """Share of 95 % intervals of a score that hold its true value."""
    held_plain: float
    """The same of plain percentiles, not corrected for few and unequal clusters."""
    held_difference: float | None
    """The same of the interval of the difference between two methods; None where reports show none."""
    test: str | None
    false_alike: float | None
    """Share of p ≤ 0.05 between two methods of the same law."""
    false_unlike: float | None
    """The same between two methods of equal mean that differ otherwise."""
    power: float | None
    """Share of p ≤ 0.05 in favour of the better method, which is better by ``better_by``."""
    better_by: float
    first: float
    """How often the better method has the better score."""

    def met(self, found: Simulated) -> bool:
        """Are all goals met that there are for it? False positives: but for the error of simulating."""
        held = [h for h in (self.held, self.held_difference) if h is not None]
        false = [f for f in (self.false_alike, self.false_unlike) if f is not None]
        most = most_false(found.benchmarks)
        return all(GOAL[0] <= h <= GOAL[1] for h in held) and all(f <= most for f in false)


@dataclass(frozen=True)
class Family:
    """All five paired tests of one benchmark together, corrected by Holm."""

    docs: int
    false_alike: float
    """Share of benchmarks with any corrected p ≤ 0.05 though all methods are alike."""
    power: Mapping[str, float]
    """Score → share of corrected p ≤ 0.05."""


@dataclass(frozen=True)
class Simulated:
    """The whole table."""

    benchmarks: int
    seed: int
    rows: list[Row]
    families: list[Family]


def simulate(
    benchmarks: int, docs: Sequence[int] = DOCS, seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> Simulated:  # fmt: skip
    """Every headline score at every number of docs.

    Raises:
        PluralismError: fewer than two benchmarks or docs.
    """
    if benchmarks < 2 or not docs or min(docs) < 2:
        raise PluralismError(
            f"{benchmarks} benchmarks of {', '.join(map(str, docs)) or 'no'} docs: at least two of either are needed"
        )
    gc.collect()
    gc.freeze()  # statsmodels collects garbage at every correction: by default of everything that is loaded
    rows, families = [], []
    for n in docs:
        alike, unequal = {}, {}
        for score in SCORES:
            row, own = measure(score, n, benchmarks, seed)
            rows.append(row)
            if score.in_family:
                alike[score.title], unequal[score.title] = own["alike"], own["better"]
            say(f"{score.title}, {n} docs: {row.held:.1%} of intervals hold the truth")
        families.append(_family(n, alike, unequal))
    return Simulated(benchmarks, seed, rows, families)


def most_false(benchmarks: int) -> float:
    """The share of false positives that a test of exactly 5 % hardly ever exceeds: three standard errors more."""
    return ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / benchmarks)


def intervals(scores: Floats, clusters: Sequence[int], seed: int) -> Floats:
    """Those of reports."""
    return np.array(mean_intervals(scores, clusters, seed=seed))  # type: ignore[arg-type]


def p_values(first: Floats, second: Floats, clusters: Sequence[int], seed: int) -> Floats:
    """:func:`compare`'s paired permutation test of many benchmarks with the same clusters."""
    return sign_flips(_sums(first - second, clusters), seed=seed)


def mcnemar_p_values(first: Floats, second: Floats, clusters: Sequence[int], seed: int) -> Floats:
    """:func:`compare`'s test of right/wrong scores of docs that are clusters of their own."""
    won, lost = (first > second).sum(axis=1).tolist(), (first < second).sum(axis=1).tolist()
    return np.array([_mcnemar(*pair) for pair in zip(won, lost, strict=True)])


_mcnemar = lru_cache(maxsize=None)(mcnemar)


def measure(
    score: Score,
    n: int,
    benchmarks: int,
    seed: int = 0,
    intervals: Intervals = intervals,
    test: Test | None = None,
) -> tuple[Row, dict[str, NDArray[Any]]]:
    """One row, and what is behind it, one number a benchmark: ``held``, ...; p-values ``alike``, ``unlike``, ``better``.

    Args:
        intervals, test: what is put to the test; the test by default the one that reports use for this score.
    """
    check = test or (mcnemar_p_values if score.mcnemar else p_values)
    found: dict[str, list[Floats]] = {}
    clusters = []
    for place, (size, rng) in enumerate(_chunks(score, n, benchmarks, seed)):
        drawn = _drawn(score, size, score.world.design(n, rng), rng)
        clusters.append(drawn.clusters[-1] + 1)
        for name, own in _checked(score, drawn, place, intervals, check).items():
            found.setdefault(name, []).append(own)
    whole = {name: np.concatenate(own) for name, own in found.items()}
    return _row(score, n, float(np.mean(clusters)), whole), whole


@dataclass(frozen=True)
class _Drawn:
    """Benchmarks of one design."""

    clusters: list[int]
    pairs: dict[str, tuple[Floats, Floats, NDArray[np.int64]]]
    """What is compared → scores of the other method and of the first, gold labels."""


def _drawn(score: Score, size: int, design: NDArray[np.int64], rng: np.random.Generator) -> _Drawn:
    pairs = {}
    for name, other in (("alike", score.method), ("unlike", score.unlike), ("better", score.better)):  # fmt: skip
        (first, second), labels = score.world.benchmarks((other, score.method), size, design, rng)
        pairs[name] = first, second, labels
    return _Drawn(design.tolist(), pairs)


def _checked(
    score: Score, drawn: _Drawn, seed: int, intervals: Intervals, test: Test
) -> dict[str, NDArray[Any]]:
    """[n_benchmarks] of each: do intervals hold, is the better one first, p-values."""
    clusters, truth = drawn.clusters, score.method.truth
    _, own, labels = drawn.pairs["alike"]
    ends, plain = (
        _balanced(own, labels, clusters, seed)
        if score.balanced
        else (intervals(own, clusters, seed), _plain(own, clusters, seed))
    )
    better, worse, gold = drawn.pairs["better"]
    gain = score.better.truth - truth
    ahead = _values(score, better, gold) - _values(score, worse, gold)
    found: dict[str, NDArray[Any]] = {
        "held": _holds(ends, truth), "plain": _holds(plain, truth), "first": ahead * gain > 0,
    }  # fmt: skip
    if not score.balanced:
        found["difference"] = _holds(intervals(better - worse, clusters, seed), gain)
        found |= {name: test(a, b, clusters, seed) for name, (a, b, _) in drawn.pairs.items()}
    return found


def _row(score: Score, n: int, clusters: float, found: Mapping[str, NDArray[Any]]) -> Row:
    tested = "better" in found
    return Row(
        score.title, n, clusters,
        held=float(found["held"].mean()),
        held_plain=float(found["plain"].mean()),
        held_difference=float(found["difference"].mean()) if tested else None,
        test=None if not tested else "McNemar" if score.mcnemar else "paired permutation",
        false_alike=float((found["alike"] <= ALPHA).mean()) if tested else None,
        false_unlike=float((found["unlike"] <= ALPHA).mean()) if tested else None,
        power=float(((found["better"] <= ALPHA) & found["first"]).mean()) if tested else None,
        better_by=score.better.truth - score.method.truth,
        first=float(found["first"].mean()),
    )  # fmt: skip


def _chunks(
    score: Score, n: int, benchmarks: int, seed: int
) -> Iterator[tuple[int, np.random.Generator]]:
    """(benchmarks, their generator): what one score draws depends on no other score."""
    for start in range(0, benchmarks, _AT_ONCE):
        own = [seed, SCORES.index(score) if score in SCORES else len(SCORES), n, start]
        yield min(_AT_ONCE, benchmarks - start), np.random.default_rng(own)


def _plain(scores: Floats, clusters: Sequence[int], seed: int) -> Floats:
    """[n_benchmarks][2] percentiles without the correction."""
    sizes = np.bincount(clusters)[:, None, None].repeat(len(scores), axis=1)
    resampled = macro_resamples(_sums(scores, clusters).T[:, :, None], sizes, seed=seed)
    return np.stack(tails(resampled, LEVEL, None), axis=1)


def _holds(ends: Floats, truth: float) -> NDArray[np.bool_]:
    return (ends[:, 0] <= truth) & (truth <= ends[:, 1])


def _sums(numbers: Floats, clusters: Sequence[int]) -> Floats:
    """[n_benchmarks][n_clusters]; the docs of a cluster stand together."""
    starts = np.flatnonzero(np.diff(clusters, prepend=-1))
    return np.add.reduceat(numbers, starts, axis=1)


def _values(score: Score, right: Floats, labels: NDArray[np.int64]) -> Floats:
    """[n_benchmarks] values of the score."""
    if not score.balanced:
        return np.asarray(right.mean(axis=1))
    own = np.stack([labels == k for k in range(len(score.world.labels))])
    n = own.sum(axis=2)
    recalls = np.divide((own * right).sum(axis=2), n, out=np.zeros(n.shape), where=n > 0)
    return np.asarray(recalls.sum(axis=0) / (n > 0).sum(axis=0))


def _balanced(
    right: Floats, labels: NDArray[np.int64], clusters: Sequence[int], seed: int
) -> tuple[Floats, Floats]:
    """[n_benchmarks][2] intervals of balanced accuracy, as ``summary.interval`` has them, and without the correction."""
    own = [labels == k for k in range(int(labels.max()) + 1)]
    sums, sizes = (
        np.stack([_sums(np.asarray(part, dtype=float), clusters).T for part in parts], axis=2)
        for parts in ([label * right for label in own], own)
    )
    resampled = macro_resamples(sums, sizes, seed=seed)
    found = []
    for i in range(len(right)):
        present = sizes[:, i][:, sizes[:, i].sum(axis=0) > 0]
        found.append(percentiles(resampled[:, i], LEVEL, present))
    return np.array(found), np.stack(tails(resampled, LEVEL, None), axis=1)


def _family(n: int, alike: Mapping[str, Floats], unequal: Mapping[str, Floats]) -> Family:
    """The scores' benchmarks, which are independent, taken together one by one."""

    def corrected(p: Mapping[str, Floats]) -> Any:
        return np.array([holm(row) for row in np.stack(list(p.values()), axis=1).tolist()])

    power = (corrected(unequal) <= ALPHA).mean(axis=0).tolist()
    any_false = (corrected(alike) <= ALPHA).any(axis=1).mean()
    return Family(n, float(any_false), dict(zip(unequal, power, strict=True)))
