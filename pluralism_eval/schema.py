"""What travels through the house: frozen, typed, no behaviour.

``Query`` has no field for a gold answer, so that no method can ever see one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["overton", "steerable", "distributional"]
MODES: tuple[Mode, ...] = ("overton", "steerable", "distributional")
Readout = Literal["letters", "continuations", "generation"]
Turn = dict[str, str]
"""One chat turn: ``{"role": "system" | "user" | "assistant", "content": ...}``."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question to a method, as rendered by lm-eval, without its answer."""

    key: str
    """``task/doc_id``: unique within a run."""
    task: str
    doc_id: int
    source_id: str
    """The item's ``id`` in the data (joins the authors' exported message files)."""
    source_input: str
    """Name of the input file the item came from; empty for foreign tasks."""
    mode: Mode
    readout: Readout
    text: str
    """The query itself."""
    prefix: str = ""
    """What precedes the query in the same turn: few-shot examples, description."""
    history: tuple[Turn, ...] = ()
    """Chat turns before the query's (system instruction, few-shot turns)."""
    prefill: str | None = None
    """Start of the assistant's turn (``gen_prefix``), or None."""
    chat: bool = False
    """True if the prompt goes through the LLM's chat template."""
    options: tuple[str, ...] = ()
    """Option letters (readout ``letters``) or continuations (``continuations``)."""
    attribute: str = ""
    """Whom or what to steer to: a value, a group, a country."""
    attribute_line: str = ""
    """The paper's sentence that states the attribute; empty where the task has none."""
    steer_line: str = ""
    """The paper's extra instruction for prompting and modular pluralism (steerable VK)."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """lm-eval's generation settings (``until``, ``max_gen_toks``, ...)."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one community LM says about one query."""

    community: str
    text: str
    n_tokens: int
    """New tokens generated; 0 for imported messages."""
    stopped: bool
    """False if the length limit ended it."""
    attempts: int = 1
    """Samples drawn until one was not empty (at most 3)."""
    reused: bool = False
    """True if it came from the store."""
    imported: bool = False
    """True if it was written elsewhere and imported."""


@dataclass(frozen=True, slots=True)
class OptionScores:
    """One prompt's reading of the options."""

    logprobs: tuple[float, ...]
    """[n_options] nats over the full vocabulary, all spellings of an option summed; ≤ 0."""
    greedy: int
    """Index of the option that greedy decoding would begin with, or -1."""
    uniform_fallback: bool = False
    """preset=reference only: no option among the likeliest tokens, all scored alike."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which community the LLM picked, and how that was read."""

    community: str
    raw: str
    """The LLM's words."""
    fallback: bool
    """True if they named no single community and a seeded random one was taken."""


@dataclass(frozen=True, slots=True)
class Sent:
    """One prompt that was actually sent, and what came back."""

    round: str
    prompt: str
    tokens_cut: int = 0
    """Tokens of passages that did not fit the context window."""
    scores: OptionScores | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A method's answer with its trace."""

    text: str = ""
    """The response (readout ``generation``)."""
    logprobs: tuple[float, ...] = ()
    """[n_options] nats: log of distribution times option mass."""
    greedy: int = -1
    """Option that greedy decoding gives under every prompt sent, or -1."""
    messages: tuple[Message, ...] = ()
    selection: Selection | None = None
    sent: tuple[Sent, ...] = ()
