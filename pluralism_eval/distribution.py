"""Option log-probabilities → distribution; mixtures; validity. Plain float64, no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from pluralism_eval.errors import PluralismError

ABOVE_0 = 0.01
"""Nats above 0 that low precision explains: two spellings that share all probability, in bfloat16."""
_MOST = 1e300
TIE = 1e-12
"""Probabilities that differ by no more are equal: what averaging in another order may change."""
_EXACT_SUM = 1e-13
"""A sum this near to 1 is rounding; numpy's samplers refuse what exceeds 1 by 1e-12."""


def normalise(logprobs: Sequence[float]) -> tuple[list[float], float]:
    """Distribution over the options, and the mass they had before.

    Args:
        logprobs: [n_options] nats; -inf is allowed, NaN is not, nor what exceeds 0 by more than rounding.

    Returns:
        ([n_options] probabilities that sum to 1, mass in [0, 1+]).

    Raises:
        PluralismError: no option, a number that is no log-probability, or no mass at all.
    """
    if not len(logprobs) or not all(value <= ABOVE_0 for value in logprobs):
        raise PluralismError(
            f"option log-probabilities must be numbers, 0 or less, got {list(logprobs)}"
        )
    values = [max(value, -_MOST) if value > -math.inf else value for value in logprobs]
    total = logsumexp(values)
    if math.isinf(total):
        raise PluralismError(f"no option has any probability: {list(logprobs)}")
    return np.exp(np.array(values) - total).tolist(), math.exp(total)


def logsumexp(values: Sequence[float] | np.ndarray) -> float:
    """``log Σ exp(v)`` of at least one value, without overflow.

    scipy's, to the last digit, in a tenth of its time for as few values as a question has options.
    """
    shifted = np.array(values, dtype=np.float64)
    top = shifted.max()
    if not math.isfinite(top):
        return float(top)
    highest = shifted == top
    shifted -= top
    shifted[highest] = -np.inf
    n = np.count_nonzero(highest)
    return float(np.log1p(np.exp(shifted).sum() / n) + np.log(n) + top)


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
        return uniform(len(parts[0][0])), 0.0
    return mix([d for d, _ in read], [w / total for _, w in read]), mass


def total_variation(p: Sequence[float], q: Sequence[float]) -> float:
    """Half the sum of absolute differences; 0 ≤ d ≤ 1."""
    return float(
        np.abs(np.asarray(p, dtype=np.float64) - np.asarray(q, dtype=np.float64)).sum() / 2
    )


def read(logprobs: Sequence[float]) -> tuple[list[float], float]:
    """:func:`normalise`, but no mass at all (nothing could be read) is the uniform distribution, 0.

    So is a mass that no float holds (below e^-745): servers write -9999 for what they do not know.
    """
    if logprobs and all(value == -math.inf for value in logprobs):
        return uniform(len(logprobs)), 0.0
    distribution, mass = normalise(logprobs)
    return (distribution, mass) if mass > 0 else (uniform(len(logprobs)), 0.0)


def rescaled(values: Sequence[float]) -> list[float]:
    """``values`` divided by their sum; what sums to 1 already (±1e-13) stays to the bit."""
    total = math.fsum(values)
    scale = 1.0 if abs(total - 1) <= _EXACT_SUM else total
    return [float(value) / scale for value in values]


def uniform(n: int) -> list[float]:
    """[n] all alike."""
    return [1 / n] * n


def modes(distribution: Sequence[float]) -> list[int]:
    """Indices of the largest probability: several where they tie (±1e-12)."""
    top = max(distribution)
    return [i for i, p in enumerate(distribution) if p >= top - TIE]


def likeliest(distribution: Sequence[float], draw: int = 0) -> int:
    """Index of the largest probability; of equal ones (±1e-12) the one that ``draw`` ≥ 0 picks, 0 the first.

    The first as a rule would favour option A, which is what some golds are: scores take a ``draw`` that
    differs from doc to doc (:func:`pluralism_eval.metrics.metric.tie_break`).
    """
    equal = modes(distribution)
    return equal[draw % len(equal)]


def check_weights(weights: Sequence[float]) -> None:
    """Raises PluralismError unless ``weights`` are ≥ 0 and sum to 1 (±1e-6)."""
    # "not <=": a NaN compares as false
    if not weights or not all(0 <= w < 2 for w in weights) or not abs(sum(weights) - 1) <= 1e-6:
        raise PluralismError(f"weights must be ≥ 0 and sum to 1, got {list(weights)}")


def to_logprobs(distribution: Sequence[float], mass: float) -> tuple[float, ...]:
    """Inverse of :func:`normalise`: log(d · mass), so that a result carries both.

    What is larger in ``distribution`` is larger here: neighbouring floats, whose logarithms are one float, are told
    apart by its next.
    """
    logs = [math.log(p * mass) if p * mass > 0 else -math.inf for p in distribution]
    ascending = sorted(range(len(logs)), key=lambda i: distribution[i])
    for lower, i in pairwise(ascending):
        if distribution[i] > distribution[lower] and -math.inf < logs[i] <= logs[lower]:
            logs[i] = math.nextafter(logs[lower], math.inf)
        elif distribution[i] == distribution[lower]:
            logs[i] = logs[lower]
    return tuple(logs)


def entropy(distribution: Sequence[float]) -> float:
    """Shannon entropy in nats; 0 ≤ H ≤ ln n."""
    p = np.asarray(distribution, dtype=np.float64)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
