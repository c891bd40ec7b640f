"""Between which values a score lies when part of the distribution was not seen, or was sampled."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pluralism_eval.cache import digest
from pluralism_eval.metrics.distance import js_distance

_DRAWS = 200
EXACT = 1e-12
"""Hidden probability up to which a distribution is taken as it is."""


def least_of(results: Sequence[Sequence[Any]], distribution: Sequence[float]) -> list[float]:
    """[n_options] least probabilities from responses ``(log-probability, greedy, least, samples)``;
    those of ``distribution`` where responses say nothing of it."""
    if all(len(result) > 2 for result in results):
        return [min(float(r[2]), p) for r, p in zip(results, distribution, strict=True)]
    return list(distribution)


def samples_of(results: Sequence[Sequence[Any]]) -> float:
    """Independent samples that the distribution is worth; 0: none was sampled."""
    return float(results[0][3]) if results and len(results[0]) > 3 else 0.0


def distance_bounds(least: Sequence[float], gold: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest J-S distance to ``gold`` of any distribution with these least
    probabilities. Exact: the divergence is convex, so its maximum gives all that is hidden to one
    option, and its minimum fills up the options that have least of their share."""
    hidden = max(0.0, 1.0 - math.fsum(least))
    if hidden <= EXACT:
        exact = js_distance(list(least), list(gold))
        return exact, exact
    n = len(least)
    highest = max(
        js_distance([p + hidden * (j == i) for j, p in enumerate(least)], list(gold))
        for i in range(n)
    )
    return js_distance(_filled(least, gold), list(gold)), highest


def _filled(least: Sequence[float], gold: Sequence[float]) -> list[float]:
    """``p_i = max(least_i, c · gold_i)`` with c such that they sum to 1: the nearest to ``gold``."""
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        if math.fsum(max(a, middle * g) for a, g in zip(least, gold, strict=True)) < 1:
            low = middle
        else:
            high = middle
    filled = [max(a, high * g) for a, g in zip(least, gold, strict=True)]
    total = math.fsum(filled)
    return [p / total for p in filled]


def match_bounds(least: Sequence[float], target: int) -> tuple[float, float]:
    """(1 if ``target`` is certainly the likeliest, 1 if it may be), each else 0."""
    hidden = max(0.0, 1.0 - math.fsum(least))
    others = max((p for i, p in enumerate(least) if i != target), default=-1.0)
    return float(least[target] > others + hidden), float(least[target] + hidden >= others)


def sampling_error(
    distribution: Sequence[float],
    samples: float,
    score: Callable[[list[float]], float],
    seed: Any,
) -> float:
    """Standard deviation of ``score`` over repeated sampling (parametric bootstrap, 200 draws); 0
    where nothing was sampled."""
    n = round(samples)
    if n < 1:
        return 0.0
    rng = np.random.default_rng(int(digest(seed)[:12], 16))
    p = np.asarray(distribution, dtype=np.float64)
    draws = rng.multinomial(n, p / p.sum(), _DRAWS) / n
    return float(np.std([score(row) for row in draws.tolist()]))


def error_of_mean(errors: Sequence[float]) -> float:
    """Sampling error of a mean over docs from those of its docs."""
    return math.sqrt(math.fsum(e * e for e in errors)) / len(errors) if errors else math.nan
