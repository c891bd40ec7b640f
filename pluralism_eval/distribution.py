"""Option log-probabilities → distribution; mixtures; validity. Plain float64, no model."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from pluralism_eval.errors import PluralismError


def normalise(logprobs: Sequence[float]) -> tuple[list[float], float]:
    """Distribution over the options, and the mass they had before.

    Args:
        logprobs: [n_options] nats; -inf allowed, NaN and +inf are not.

    Returns:
        ([n_options] probabilities that sum to 1, mass in [0, 1+]).

    Raises:
        PluralismError: no option, a NaN, or no mass at all.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    if values.size == 0 or np.isnan(values).any() or np.isposinf(values).any():
        raise PluralismError(
            f"option log-probabilities must be numbers below infinity, got {list(logprobs)}"
        )
    total = float(logsumexp(values))
    if math.isinf(total):
        raise PluralismError(f"no option has any probability: {list(logprobs)}")
    return [float(p) for p in np.exp(values - total)], math.exp(total)


def mix(distributions: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """``d = Σ w_i d_i`` (section 2, distributional pluralism).

    Args:
        distributions: [k][n_options], each summing to 1.
        weights: [k] community priors, summing to 1.
    """
    check_weights(weights)
    mixed = np.asarray(weights, dtype=np.float64) @ np.asarray(distributions, dtype=np.float64)
    return [float(p) for p in mixed]


def mean_read(
    parts: Sequence[tuple[Sequence[float], float]], weights: Sequence[float] | None = None
) -> tuple[list[float], float]:
    """Weighted mean of distributions, those that could not be read (mass 0) left out.

    Args:
        parts: [k] of ([n_options] distribution, mass).
        weights: [k], summing to 1; None weighs alike. Renormalised over the parts that were read.

    Returns:
        ([n_options] distribution, mean mass with 0 for the unread); uniform and 0 if none was read.
    """
    own = list(weights) if weights is not None else [1 / len(parts)] * len(parts)
    mass = sum(w * m for w, (_, m) in zip(own, parts, strict=True))
    read = [(d, w) for (d, m), w in zip(parts, own, strict=True) if m > 0]
    total = sum(w for _, w in read)
    if total <= 0:
        n = len(parts[0][0])
        return [1 / n] * n, 0.0
    return mix([d for d, _ in read], [w / total for _, w in read]), mass


def total_variation(p: Sequence[float], q: Sequence[float]) -> float:
    """Half the sum of absolute differences; 0 ≤ d ≤ 1."""
    return float(
        np.abs(np.asarray(p, dtype=np.float64) - np.asarray(q, dtype=np.float64)).sum() / 2
    )


def read(logprobs: Sequence[float]) -> tuple[list[float], float]:
    """:func:`normalise`, but no mass at all (nothing could be read) is the uniform distribution, 0."""
    if logprobs and all(value == -math.inf for value in logprobs):
        return [1 / len(logprobs)] * len(logprobs), 0.0
    return normalise(logprobs)


def check_weights(weights: Sequence[float]) -> None:
    """Raises PluralismError unless ``weights`` are ≥ 0 and sum to 1 (±1e-6)."""
    if not weights or min(weights) < 0 or abs(sum(weights) - 1) > 1e-6:
        raise PluralismError(f"weights must be ≥ 0 and sum to 1, got {list(weights)}")


def to_logprobs(distribution: Sequence[float], mass: float) -> tuple[float, ...]:
    """Inverse of :func:`normalise`: log(d · mass), so that a result carries both."""
    return tuple(math.log(p * mass) if p * mass > 0 else -math.inf for p in distribution)


def entropy(distribution: Sequence[float]) -> float:
    """Shannon entropy in nats; 0 ≤ H ≤ ln n."""
    p = np.asarray(distribution, dtype=np.float64)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
