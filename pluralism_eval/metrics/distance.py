"""How far a predicted option distribution is from people's: p predicted, q gold, both [n_options].

All functions raise PluralismError for lengths that differ, no options, or values that are no
distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import rel_entr

from pluralism_eval import distribution
from pluralism_eval.errors import PluralismError

Distribution = Sequence[float]
KL_SMOOTHING = 1e-3
"""Added to every option of the prediction before :func:`kl_divergence` renormalises it."""
_SMALLEST = 1e-300
_ROUNDING = 1e-12
"""Relative difference of two probabilities that logarithm, sum and exponential explain: no difference."""
_TEMPERATURES = (0.05, 20.0)


def js_distance(p: Distribution, q: Distribution, base: float = math.e) -> float:
    """Jensen-Shannon *distance* (root of the divergence).

    Args:
        base: of the logarithm; e is the paper's.

    Returns:
        0 ≤ d ≤ sqrt(log_base 2): 0.8326 for base e, 1 for base 2.
    """
    _check(p, q)
    # halves of the smallest floats are 0, which would make their share of the divergence infinite
    kept = [np.where(np.asarray(v, dtype=np.float64) < _SMALLEST, 0.0, v) for v in (p, q)]
    a, b = _without_rounding(*(v / v.sum() for v in kept))
    middle = (a + b) / 2
    divergence = (rel_entr(a, middle).sum() + rel_entr(b, middle).sum()) / np.log(base) / 2
    return math.sqrt(divergence) if divergence > 0 else 0.0  # rounding below zero: equal inputs


def total_variation(p: Distribution, q: Distribution) -> float:
    """Half the sum of absolute differences; 0 ≤ d ≤ 1."""
    _check(p, q)
    a, b = _without_rounding(p, q)
    return float(np.abs(a - b).sum() / 2)


def wasserstein(p: Distribution, q: Distribution, positions: Sequence[int | None]) -> float:
    """1-Wasserstein distance on an ordinal scale, as a share of the scale's length.

    Args:
        positions: [n_options] place of each option on the scale; None sets it apart (a refusal).

    Returns:
        0 ≤ d ≤ 1; NaN where one side puts nothing on the scale, or it has fewer than two places.
    """
    _check(p, q)
    if len(positions) != len(p):
        raise PluralismError(f"{len(positions)} positions for {len(p)} options")
    kept = [i for i, place in enumerate(positions) if place is not None]
    places = [float(positions[i] or 0) for i in kept]
    mine, theirs = _without_rounding([p[i] for i in kept], [q[i] for i in kept])
    if len(set(places)) < 2 or not mine.sum() > 0 or not theirs.sum() > 0:
        return float("nan")
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(places, places, mine, theirs) / (max(places) - min(places)))


def kl_divergence(p: Distribution, q: Distribution, smoothing: float = KL_SMOOTHING) -> float:
    """KL(q ‖ p) in nats: what people's answers cost under the smoothed prediction.

    The prediction is smoothed, (p + ε) / (1 + nε), because a zero would make it infinite; ≥ 0.
    """
    _check(p, q)
    smooth = (np.asarray(p, dtype=np.float64) + smoothing) / (1 + smoothing * len(p))
    smooth, gold = _without_rounding(smooth, q)
    return max(0.0, float(rel_entr(gold, smooth).sum()))


def mode_match(p: Distribution, q: Distribution, draw: int = 0) -> float:
    """1 if the likeliest predicted option (of equals, the one that ``draw`` picks) is a likeliest gold option."""
    _check(p, q)
    return float(q[distribution.likeliest(p, draw)] == max(q))


def temper(p: Distribution, temperature: float) -> list[float]:
    """p^(1/T), renormalised: above 1 flattens, below 1 sharpens. T > 0."""
    logs = np.log(np.maximum(np.asarray(p, dtype=np.float64), 1e-12)) / temperature
    scaled = np.exp(logs - logs.max())
    return [float(v) for v in scaled / scaled.sum()]


def fit_temperature(predicted: Sequence[Distribution], gold: Sequence[Distribution]) -> float:
    """The temperature with the least mean KL(gold ‖ tempered prediction), from 0.05 to 20.

    Args:
        predicted, gold: [n_docs][n_options].
    """
    widest = max(len(p) for p in predicted)
    logs = np.full((len(predicted), widest), -np.inf)
    target = np.zeros((len(predicted), widest))
    for i, (p, q) in enumerate(zip(predicted, gold, strict=True)):
        logs[i, : len(p)] = np.log(np.maximum(np.asarray(p, dtype=np.float64), 1e-12))
        target[i, : len(q)] = q
    seen = np.where(np.isfinite(logs), logs, 0.0)

    def loss(log_temperature: float) -> float:
        scaled = logs / math.exp(log_temperature)
        total = np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        return float(-(target * (seen / math.exp(log_temperature) - total)).sum(axis=1).mean())

    from scipy.optimize import minimize_scalar

    low, high = (math.log(t) for t in _TEMPERATURES)
    return math.exp(float(minimize_scalar(loss, bounds=(low, high), method="bounded").x))


def _without_rounding(
    p: Distribution | np.ndarray, q: Distribution | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays; values of ``p`` that only rounding tells from those of ``q`` become those.

    A prediction passes through logarithms: one equal to the gold comes back a few bits beside it, and the root in
    :func:`js_distance` would make 1e-9 of that.
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (p, q))
    return np.where(np.abs(a - b) <= _ROUNDING * np.maximum(a, b), b, a), b


def _check(p: Distribution, q: Distribution) -> None:
    if len(p) != len(q) or not len(p):
        raise PluralismError(f"distributions of {len(p)} and {len(q)} options cannot be compared")
    for name, values in (("p", p), ("q", q)):
        if not all(0 <= v < float("inf") for v in values) or abs(sum(values) - 1) > 1e-6:
            raise PluralismError(f"{name}={list(values)} is not a distribution")
