"""Influence of players on the value of their coalition: Shapley values and leave-one-out.

A game gives every coalition of k players a value. Shapley: a player's marginal contribution
v(S + i) - v(S), averaged over all orders in which the players may come in; the shares of all sum to
v(everyone) - v(nobody). Leave-one-out: v(everyone) - v(everyone but i), which is 0 for two players
who say the same, however useful they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MAX_EXACT = 12
"""Players up to which all 2^k coalitions are valued (4,096: fewer than 500 sampled orders visit)."""
PERMUTATIONS = 500
_BLOCK = 8  # coalitions valued at once: bounds the memory on 28,760 docs

Value = Callable[[np.ndarray], np.ndarray]
"""Coalitions [n][k] of bool → their values [n][n_games]."""


@dataclass(frozen=True)
class Solution:
    """Influence in several games of the same k players, one game a doc."""

    shapley: np.ndarray
    """[n_games][k]; rows sum to ``everyone - nobody``."""
    leave_one_out: np.ndarray
    """[n_games][k]"""
    everyone: np.ndarray
    """[n_games] value of all players together."""
    nobody: np.ndarray
    """[n_games] value of the empty coalition."""
    sampling_error: np.ndarray | None
    """[k] standard error of the mean Shapley value over games, from sampling orders; None: exact."""


def solve(value: Value, k: int, permutations: int = PERMUTATIONS, seed: int = 0) -> Solution:
    """Influence of ``k`` ≥ 1 players; exact up to :data:`MAX_EXACT`, else from sampled orders."""
    everyone, nobody = value(np.ones((1, k), dtype=bool))[0], value(np.zeros((1, k), dtype=bool))[0]
    without = _blocks(value, ~np.eye(k, dtype=bool))
    error = None
    if k <= MAX_EXACT:
        shapley = exact(value, k)
    else:
        shapley, error = sampled(value, k, permutations, seed)
    return Solution(shapley, (everyone - without).T, everyone, nobody, error)


def coalitions(k: int) -> np.ndarray:
    """[2^k][k] of bool: every coalition once, nobody first."""
    return (np.arange(2**k)[:, None] >> np.arange(k) & 1).astype(bool)


def exact(value: Value, k: int) -> np.ndarray:
    """[n_games][k] Shapley values from all 2^k coalitions.

    A coalition S counts with (|S|-1)!(k-|S|)!/k! for its members and -|S|!(k-|S|-1)!/k! for others.
    """
    members = coalitions(k)
    sizes = members.sum(axis=1)
    f = [math.factorial(n) for n in range(k + 1)]
    inside = np.array([f[s - 1] * f[k - s] / f[k] if s else 0.0 for s in sizes])
    outside = np.array([f[s] * f[k - s - 1] / f[k] if s < k else 0.0 for s in sizes])
    weights = np.where(members, inside[:, None], -outside[:, None])
    total = sum(
        weights[start : start + _BLOCK].T @ value(members[start : start + _BLOCK])
        for start in range(0, len(members), _BLOCK)
    )
    values: np.ndarray = np.asarray(total).T
    return values


def sampled(value: Value, k: int, permutations: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """([n_games][k] Shapley values from ``permutations`` ≥ 2 random orders, [k] standard error).

    Each order's contributions sum to v(everyone) - v(nobody), so their mean does as well.
    """
    rng = np.random.default_rng(seed)
    total: np.ndarray | float = 0.0
    means = []
    for _ in range(permutations):
        order = rng.permutation(k)
        joined = np.tril(np.ones((k + 1, k), dtype=bool), -1)  # row j: the first j players
        members = np.zeros_like(joined)
        members[:, order] = joined
        gains = np.diff(_blocks(value, members), axis=0)
        own = np.empty_like(gains)
        own[order] = gains
        total = total + own
        means.append(own.mean(axis=1))
    error = np.std(means, axis=0, ddof=1) / math.sqrt(permutations)
    return (np.asarray(total) / permutations).T, error


def _blocks(value: Value, members: np.ndarray) -> np.ndarray:
    parts = [value(members[i : i + _BLOCK]) for i in range(0, len(members), _BLOCK)]
    return np.concatenate(parts)
