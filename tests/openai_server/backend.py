"""What the server asks a model for, and what it gets back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

FinishReason = Literal["stop", "length", "content_filter"]
Message = Mapping[str, Any]


@dataclass(frozen=True)
class Ask:
    """One prompt of one request, checked, with every default filled in."""

    body: Mapping[str, Any]
    """The request as it came."""
    prompt: str | tuple[int, ...]
    """Text or token ids; the rendered conversation for chat."""
    messages: tuple[Message, ...] | None
    """Chat only."""
    n: int
    max_tokens: int
    temperature: float
    top_p: float
    seed: int
    """The request's; else one that differs every time the same body is asked."""
    stop: tuple[str, ...]
    top: int | None
    """Alternatives to report for each token; None: no log-probabilities."""
    echo: bool
    schema: Mapping[str, Any] | None
    """The JSON schema that the text must conform to."""


@dataclass(frozen=True)
class Token:
    """One token, with its log-probability (nats) before temperature and top_p."""

    raw: bytes
    logprob: float | None
    """None: the first token of a prompt."""
    top: tuple[tuple[bytes, float], ...] = ()
    """The likeliest tokens here, best first."""
    rank: int = 0
    """0: it is the likeliest."""


@dataclass(frozen=True)
class Choice:
    """One sample."""

    text: str
    tokens: tuple[Token, ...]
    """Those of ``text``, without what ended it."""
    finish_reason: FinishReason
    n_tokens: int
    """What was generated and is billed: end token and stop string too."""
    refusal: str | None = None


@dataclass(frozen=True)
class Answer:
    """All samples of one prompt."""

    prompt_tokens: int
    choices: tuple[Choice, ...]
    prompt_text: str = ""
    """As text; also without echo, which counts offsets from it."""
    prompt: tuple[Token, ...] = ()
    """With echo and log-probabilities only."""


class Backend(Protocol):
    """A model: see ``scripted.Scripted`` and ``tests.embedded_backend.Embedded``."""

    max_length: int
    """Context window in tokens, prompt and completion together."""
    takes_ids: bool
    """True: prompts may be token ids."""

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation as one prompt, ready for the assistant's turn."""

    def count(self, prompt: str | tuple[int, ...]) -> int:
        """Tokens of ``prompt``."""

    def answer(self, ask: Ask) -> Answer:
        """``ask.n`` samples."""
