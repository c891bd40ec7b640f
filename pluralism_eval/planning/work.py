"""Calls and tokens of one model, and what their time and memory depend on."""

from __future__ import annotations

from dataclasses import dataclass, field

from pluralism_eval.usage import Usage


@dataclass(frozen=True)
class Work:
    """What one model does."""

    usage: Usage = field(default_factory=Usage)
    generated: int = 0
    """Texts among the calls; the others are scored."""
    limit: int = 0
    """New tokens that the longest text may have."""
    longest: int = 0
    """Tokens of the longest prompt with its reply."""

    def plus(self, other: Work) -> Work:
        return Work(
            self.usage.plus(other.usage),
            self.generated + other.generated,
            max(self.limit, other.limit),
            max(self.longest, other.longest),
        )

    def times(self, factor: float) -> Work:
        """On paper, for so many times as many docs."""
        scaled = {name: round(value * factor) for name, value in self.usage.as_dict().items()}
        return Work(Usage(**scaled), round(self.generated * factor), self.limit, self.longest)
