"""Distances between option distributions."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.spatial.distance import jensenshannon

from pluralism_eval.errors import PluralismError


def js_distance(p: Sequence[float], q: Sequence[float]) -> float:
    """Jensen-Shannon *distance* (root of the divergence), natural logarithm.

    Args:
        p, q: [n_options] distributions.

    Returns:
        0 ≤ d ≤ sqrt(ln 2) = 0.8326.

    Raises:
        PluralismError: different or zero lengths, or something that is no distribution.
    """
    if len(p) != len(q) or not len(p):
        raise PluralismError(f"distributions of {len(p)} and {len(q)} options cannot be compared")
    for name, values in (("p", p), ("q", q)):
        if not all(0 <= v < float("inf") for v in values) or abs(sum(values) - 1) > 1e-6:
            raise PluralismError(f"{name}={list(values)} is not a distribution")
    distance = float(jensenshannon(p, q))
    return (
        0.0 if distance != distance else distance
    )  # rounding below zero inside the root: equal inputs
