"""The option distributions of a distributional run, community by community, from its transcript.

``d = Σ w_i d_i`` (section 2), and the transcript holds every ``d_i``: what any coalition of communities
would have answered is known exactly, without asking the LLM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pluralism_eval.distribution import ABOVE_0
from pluralism_eval.errors import PluralismError

TOLERANCE = 1e-6
"""Largest difference between a stored probability or score and the same one computed again."""
_SMALLEST = 1e-300  # as in metrics.distance: halves of the smallest floats are 0


@dataclass(frozen=True)
class Mixtures:
    """The option distributions of a run: what any coalition would have answered.

    r readings a doc (option orders, wordings, message samples), padded where a doc has fewer; o is the
    largest number of options, padded with 0.
    """

    parts: np.ndarray
    """[k][n_docs][r][o], over the options as listed; 0 where nothing was read."""
    read: np.ndarray
    """[k][n_docs][r] 1.0 where something was read."""
    n_options: np.ndarray
    """[n_docs]"""
    priors: np.ndarray
    """[k], summing to 1."""

    def answers(self, members: np.ndarray) -> np.ndarray:
        """Coalitions [n][k] of bool → their answers [n][n_docs][o], each summing to 1."""
        k, docs, readings, options = self.parts.shape
        weights = members * self.priors
        mixed = (weights @ self.parts.reshape(k, -1)).reshape(-1, docs, readings, options)
        total = (weights @ self.read.reshape(k, -1)).reshape(-1, docs, readings)
        known = total > 0
        mixed /= np.where(known, total, 1.0)[..., None]
        count = known.sum(axis=2)
        mean = mixed.sum(axis=2) / np.maximum(count, 1)[..., None]
        listed = np.arange(options) < self.n_options[:, None]
        uniform = listed / self.n_options[:, None]
        return np.asarray(np.where(count[..., None] > 0, mean, uniform))


def mixtures(
    entries: Sequence[Mapping[str, Any]], names: Sequence[str], priors: Sequence[float]
) -> Mixtures:
    """From transcript lines of a distributional task.

    Args:
        names, priors: of the pool, in its order.

    Raises:
        PluralismError: a line that does not hold one option distribution a community and reading.
    """
    docs = [_checked_readings(entry, names) for entry in entries]
    shape = (len(names), len(docs), max(len(seen) for _, seen in docs))
    parts = np.zeros((*shape, max(len(entry["options"]) for entry in entries)))
    known = np.zeros(shape)
    for i, (distributions, seen) in enumerate(docs):
        r, _, n = distributions.shape
        parts[:, i, :r, :n] = distributions.transpose(1, 0, 2)
        known[:, i, :r] = seen.T
    options = np.array([len(entry["options"]) for entry in entries])
    return Mixtures(parts, known, options, np.asarray(priors, dtype=np.float64))


def _checked_readings(
    entry: Mapping[str, Any], names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    try:
        return _readings(entry, names)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, PluralismError):
            raise
        raise _broken(entry, f"{type(error).__name__} {error}") from error


def _readings(entry: Mapping[str, Any], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """([r][k][n_options] distributions over the options as listed, [r][k] whether they were read)."""
    n, k = len(entry["options"]), len(names)
    if entry.get("skipped"):
        return np.zeros((1, k, n)), np.zeros((1, k))
    orders = [r["order"] for r in entry.get("readings") or [{"order": range(n)}]]
    scores = [s["scores"] for s in entry["sent"] if s["round"] == "respond"]
    speakers = [m["community"] for m in entry["messages"]]
    if entry["mode"] != "distributional" or speakers != list(names) * len(orders):
        raise _broken(entry, f"its messages are not those of {', '.join(names)}, one mixture each")
    if len(scores) != k * len(orders) or not all(s and len(s["logprobs"]) == n for s in scores):
        raise _broken(entry, f"it does not hold {k * len(orders)} readings of {n} options")
    logprobs = np.array([s["logprobs"] for s in scores], dtype=np.float64).reshape(-1, k, n)
    if not (logprobs <= ABOVE_0).all():
        raise _broken(
            entry, "it has option log-probabilities that are none: they must be 0 or less"
        )
    shown, seen = _normalised(logprobs)
    listed = np.zeros_like(shown)
    for r, order in enumerate(orders):
        listed[r][:, list(order)] = shown[r]
    return listed, seen


def _normalised(logprobs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:func:`pluralism_eval.distribution.read` of many at once; zeros where there is no mass."""
    top = logprobs.max(axis=-1, keepdims=True)
    top = np.where(np.isneginf(top), 0.0, top)
    shifted = np.exp(logprobs - top)
    total = shifted.sum(axis=-1, keepdims=True)
    seen = np.exp(top) * total > 0
    return np.where(seen, shifted / np.maximum(total, 1e-300), 0.0), seen[..., 0]


def _broken(entry: Mapping[str, Any], what: str) -> PluralismError:
    return PluralismError(
        f"transcript, {entry['task']} doc {entry['doc_id']}: {what}. It was changed, or is of another run; "
        "influence needs the transcript as modular_pluralism wrote it: run again"
    )


def distances(answers: np.ndarray, golds: np.ndarray) -> np.ndarray:
    """J-S distances (base e) of answers [n][n_docs][o] to golds [n_docs][o] → [n][n_docs]."""
    from scipy.spatial.distance import jensenshannon

    kept = [np.where(v < _SMALLEST, 0.0, v) for v in (answers, golds[None])]
    with np.errstate(invalid="ignore"):  # equal inputs: rounding below 0 inside the root
        return np.asarray(np.nan_to_num(jensenshannon(*kept, axis=-1)))


def verify(
    entries: Sequence[Mapping[str, Any]],
    scores: Sequence[float],
    mixed: Mixtures,
    golds: np.ndarray,
) -> None:
    """The coalition of all must give what the run stored, or no other coalition can be trusted.

    Args:
        scores: [n_docs] J-S distances that the run logged.
        golds: [n_docs][o].

    Raises:
        PluralismError: a distribution or score that differs by more than :data:`TOLERANCE`.
    """
    answers = mixed.answers(np.ones((1, len(mixed.priors)), dtype=bool))
    found = distances(answers, golds)[0]
    wrong = []
    for i, (entry, score) in enumerate(zip(entries, scores, strict=True)):
        n = len(entry["options"])
        off = np.abs(answers[0, i, :n] - np.asarray(entry["distribution"], dtype=np.float64)).max()
        off = max(float(off), abs(float(found[i]) - score))
        if not off <= TOLERANCE:
            wrong.append((entry["doc_id"], off))
    if wrong:
        first, off = wrong[0]
        raise PluralismError(
            f"the transcript of {entries[0]['task']} does not reproduce the run's own answers on {len(wrong)} of "
            f"{len(entries)} docs (doc {first}: off by {off:.2g}, allowed {TOLERANCE:g}). It was changed, or is of "
            "another run or other weights: give the transcript that this run wrote, or run again"
        )
