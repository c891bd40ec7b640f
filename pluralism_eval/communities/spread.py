"""Whether a served model differs from another by more than either differs from itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

_NOISE_FACTOR = 5.0
_ROUNDING = 1e-6
"""Nats."""


class Said(NamedTuple):
    """A greedy answer."""

    text: str
    logprob: float | None
    """Of the text, in nats; None where the server shows none."""


@dataclass(frozen=True)
class Difference:
    """Of two models on the same prompts, each asked several times."""

    texts_that_differ: int
    """Prompts to which each model has one answer of its own."""
    of: int
    unsteady: int
    """Prompts to which one of them gives several answers."""
    gap: float
    """Largest distance (nats) between the log-probabilities of the one and of the other, where all texts are equal."""
    noise: float
    """Largest spread (nats) of one model's log-probabilities for one text."""

    @property
    def alive(self) -> bool:
        """By more prompts with an answer of its own than prompts that are unsteady, or by log-probability beyond the noise.

        Of a server whose answers to two names come from one model, texts pass by chance in less than 1 of
        100 comparisons, however it mixes two texts; log-probabilities practically never.
        """
        by_text = self.texts_that_differ > self.unsteady
        return by_text or (not self.unsteady and self.gap > _NOISE_FACTOR * self.noise + _ROUNDING)

    @property
    def why(self) -> str:
        """What hides a difference, for errors."""
        if self.unsteady:
            return f" (it is not deterministic: on {self.unsteady} a name gives several greedy answers)"
        if self.gap > _ROUNDING:
            return f" (they are {self.gap:.2g} nats apart, and {self.noise:.2g} from themselves)"
        return ""

    def shown(self) -> dict[str, Any]:
        """For results."""
        return {
            "texts_that_differ": self.texts_that_differ,
            "of": self.of,
            "unsteady": self.unsteady,
            "max_logprob_difference": self.gap,
            "noise": self.noise,
        }


def compare(own: Sequence[Sequence[Said]], base: Sequence[Sequence[Said]]) -> Difference:
    """Two models' answers: [n_prompts][times] each.

    A server may answer the same request in several ways: sampling in spite of temperature 0, other numbers
    in other batches, copies that differ. Only what is the same in every repetition is a property of the model.
    """
    differ = unsteady = 0
    gaps, spreads = [0.0], [0.0]
    for mine, theirs in zip(own, base, strict=True):
        texts = {said.text for said in mine}, {said.text for said in theirs}
        if max(map(len, texts)) > 1:
            unsteady += 1
        elif texts[0] != texts[1]:
            differ += 1
        values = [[s.logprob for s in each if s.logprob is not None] for each in (mine, theirs)]
        if max(map(len, texts)) > 1 or not all(values):
            continue
        spreads += [max(each) - min(each) for each in values]
        if texts[0] == texts[1]:
            gaps.append(_distance(*values))
    return Difference(differ, len(own), unsteady, max(gaps), max(spreads))


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Between the nearest values of two groups; 0 where one reaches into the other."""
    return max(0.0, min(a) - max(b), min(b) - max(a))
