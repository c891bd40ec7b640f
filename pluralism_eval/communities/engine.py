"""What every engine does: write messages, and prove that a community is not its bare base model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Proof = Mapping[str, Any]
"""What was compared, and the difference that was seen."""

CANARIES = (
    "A neighbour asks whether the new housing should be built. Comment:",
    "The question of the day is whether taxes on the rich should rise. Comment:",
    "My grandmother always told me that at a wedding one should",
)
"""Prompts on which a community must differ from its base model."""


@dataclass(frozen=True)
class Sampling:
    """How messages are drawn (appendix B: temperature 1, at most 512 new tokens)."""

    max_tokens: int
    top_p: float = 1.0
    temperature: float = 1.0
    """0 is greedy."""


@dataclass(frozen=True, slots=True)
class Job:
    """One message to write."""

    key: str
    community: str
    prompt: str
    seed: int
    chat: bool = False
    """The prompt is the user's turn in the chat template of the base."""


@dataclass(frozen=True, slots=True)
class Output:
    text: str
    n_tokens: int
    """New tokens."""
    stopped: bool
    """False if the length limit ended it."""
    prompt_tokens: int = 0
    """As the engine counts them."""
    refused: str = ""
    """``refusal`` or ``content_filter`` where a server would not write it."""


class Engine(Protocol):
    """Writes the messages of one or more communities."""

    def chunk(self, n_jobs: int) -> int:
        """How many of them it wants at once; the store is asked again before each chunk."""

    def generate(self, jobs: Sequence[Job], sampling: Sampling) -> Iterator[tuple[Job, Output]]:
        """One output a job, in any order, each as soon as it is there."""

    def prove(self, names: Sequence[str]) -> dict[str, Proof]:
        """Liveness of these communities. Raises PluralismError naming every dead one."""
