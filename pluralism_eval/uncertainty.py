"""What is not known about an answer: probability that a server did not show, and sampling.

A server that shows s_i for each option and hides u in all leaves the distributions
``{d : d_i ≥ s_i / (Σ s + u), Σ d = 1}`` possible. Mixtures of such sets are sets of the same form, so an
answer carries its least probabilities and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pluralism_eval.distribution import mix, read
from pluralism_eval.schema import OptionScores

Part = tuple[Sequence[float], float, Sequence[float], float]
"""Distribution, mass, least probabilities (empty: exact), samples (0: none)."""


def part(scores: OptionScores) -> Part:
    """One prompt's reading."""
    distribution, mass = read(scores.logprobs)
    return distribution, mass, lower(scores), float(scores.samples)


def lower(scores: OptionScores) -> tuple[float, ...]:
    """[n_options] least probabilities; empty where nothing is hidden."""
    if scores.unseen <= 0:
        return ()
    seen = [math.exp(value) for value in scores.logprobs]
    return tuple(s / (sum(seen) + scores.unseen) for s in seen)


def mixed(
    parts: Sequence[Part], weights: Sequence[float] | None = None
) -> tuple[tuple[float, ...], float]:
    """Least probabilities (empty: exact) and samples of the mean that ``mean_read`` takes.

    Readings without any mass and with nothing hidden are left out, as they are there. A mixture with
    weights w of n_j samples each is worth ``1 / Σ (w_j² / n_j)`` of its own, or more.
    """
    own = list(weights) if weights is not None else [1 / len(parts)] * len(parts)
    kept = [(p, w) for p, w in zip(parts, own, strict=True) if p[1] > 0 or p[2]]
    total = sum(w for _, w in kept)
    if total <= 0:
        return (), 0.0
    exact = not any(least for (_, _, least, _), _ in kept)
    least = (
        () if exact else tuple(mix([p[2] or p[0] for p, _ in kept], [w / total for _, w in kept]))
    )
    read_weight = sum(w for p, w in kept if p[1] > 0) or 1.0
    noise = sum((w / read_weight) ** 2 / p[3] for p, w in kept if p[1] > 0 and p[3] > 0)
    return least, 1 / noise if noise > 0 else 0.0
