"""What travels through the house: frozen, typed, no behaviour.

``Query`` has no field for a gold answer, so that no method can ever see one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

Mode = Literal["overton", "steerable", "distributional"]
MODES: tuple[Mode, ...] = ("overton", "steerable", "distributional")
Readout = Literal[
    "letters", "echo", "top_logprobs", "cloze", "generated", "sampled", "verbalised", "continuations", "generation"
]  # fmt: skip
"""How an answer is read. Over the options of our tasks: the probabilities of their letters over the
whole vocabulary, those that a server echoes, those among its likeliest tokens, the probabilities of the
options' texts (``cloze``), the LLM's own words,
many samples of those, or percentages that it states. ``continuations`` scores the options of foreign
tasks; ``generation`` is free text."""
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
    """Option letters, or continuations (readout ``continuations``)."""
    choices: tuple[str, ...] = ()
    """What the letters stand for, in the order in which the text lists them; empty if unknown."""
    orders: int = 1
    """Option orders to average over (:mod:`pluralism_eval.variants`)."""
    order: tuple[int, ...] = ()
    """This variant's order: [j] is the original option at place j; empty: as listed."""
    template: int = 0
    """Which wording of the method's template; 0 is the default."""
    sample: int = 0
    """Which sample of the community messages."""
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
    refused: str = ""
    """``refusal`` or ``content_filter``: the community's server would not write it. Such a message is
    empty, and asked for again by the next run."""


@dataclass(frozen=True, slots=True)
class TextScore:
    """How likely one text is to go on from a prompt."""

    logprob: float
    """Nats, summed over its tokens; ≤ 0."""
    tokens: int
    greedy: bool
    """True if greedy decoding would write it."""


@dataclass(frozen=True, slots=True)
class OptionScores:
    """One prompt's reading of the options."""

    logprobs: tuple[float, ...]
    """[n_options] nats over the full vocabulary, all spellings of an option summed; ≤ 0."""
    greedy: int
    """Index of the option that greedy decoding would begin with, or -1."""
    uniform_fallback: bool = False
    """preset=reference only: no option among the likeliest tokens, all scored alike."""
    replies: tuple[str, ...] = ()
    """The LLM's words, where those were read."""
    unread: int = 0
    """Of ``replies``, how many could not be read as an answer; without any, 1 where no option was seen."""
    unseen: float = 0.0
    """Probability of tokens that the server did not show, any of which may spell an option; in [0, 1]."""
    samples: int = 0
    """Replies that were read, where ``logprobs`` are their frequencies; 0: no sample."""
    texts: tuple[TextScore, ...] = ()
    """[n_options] of the options' texts (readout ``cloze``), from which ``logprobs`` are made."""
    priors: tuple[float, ...] = ()
    """[n_options] nats of the same texts after the question alone (``cloze_normalisation=pmi``)."""


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
    refused: str = ""
    """``refusal`` or ``content_filter`` where a server refused to answer."""
    cuts: Mapping[str, int] = field(default_factory=dict)
    """Community → tokens that its passage lost; they sum to ``tokens_cut``."""
    broken: Mapping[str, int] = field(default_factory=dict)
    """Community → special tokens in its message that were broken (:mod:`pluralism_eval.passages`)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The distribution that one variant of a query gave, over the options as listed."""

    order: tuple[int, ...]
    template: int
    sample: int
    distribution: tuple[float, ...]
    """[n_options], summing to 1; uniform if nothing could be read."""
    mass: float
    """Option mass; 0 if nothing could be read."""
    lower: tuple[float, ...] = ()
    """[n_options] least probabilities; see :class:`Answer`."""
    samples: float = 0.0


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
    selections: tuple[Selection, ...] = ()
    sent: tuple[Sent, ...] = ()
    lower: tuple[float, ...] = ()
    """[n_options] the least that each probability can be, given what the server did not show; what they
    lack of 1 may belong to any option. Empty: the distribution is exact."""
    samples: float = 0.0
    """Independent replies that the distribution is worth; 0: none was sampled."""
    skipped: str = ""
    """Why the query was not asked (``overlong=skip``); such an answer counts as one that could not be
    read."""
    readings: tuple[Reading, ...] = ()
    """One a variant, where a query was asked in several ways."""


def fields_of(record: Any) -> dict[str, Any]:
    """Name → value of a dataclass, the values as they are: what ``json.dumps`` takes as ``default``."""
    return {f.name: getattr(record, f.name) for f in fields(record)}
