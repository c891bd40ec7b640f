"""Uncertainty of the scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap


def bootstrap_interval(
    items: Sequence[Any],
    statistic: Callable[[list[Any]], float],
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap over docs.

    Args:
        items: [n_docs], whatever ``statistic`` takes a list of.

    Returns:
        (low, high); (NaN, NaN) for fewer than two docs.
    """
    if len(items) < 2:
        return float("nan"), float("nan")

    def of(indices: np.ndarray) -> float:
        return statistic([items[int(i)] for i in indices])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a constant score has a degenerate, but right, interval
        found = bootstrap(
            (np.arange(len(items)),),
            of,
            confidence_level=level,
            n_resamples=resamples,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(seed),
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
