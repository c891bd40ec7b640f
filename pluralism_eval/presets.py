"""The two readings of the benchmark: the paper's text and the authors' code (facts: SPEC)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pluralism_eval.errors import PluralismError

PAPER_NLI = "tals/albert-xlarge-vitaminc-mnli"
REFERENCE_NLI = "microsoft/deberta-v2-xlarge-mnli"


@dataclass(frozen=True)
class Preset:
    """One reading. Every difference is a field, so that each can be switched on its own."""

    name: str
    message_max_tokens: int
    """New tokens of a community LM's message."""
    message_top_p: float
    """Nucleus of message sampling at temperature 1."""
    llm_temperature: float
    """0 is greedy."""
    llm_max_tokens: int | None
    """New tokens of the LLM's response; None leaves the task's own (512)."""
    choice_max_tokens: int
    """New tokens of the LLM's choice of a community. Greedy text after the number is not read."""
    top_tokens: int | None
    """Options are read from that many likeliest tokens, the first spelling only; None: all."""
    nli: str
    nli_premise: Literal["sentence", "explanation"]
    coverage: Literal["argmax", "max_probability"]
    drop_predicted_either: bool
    """Binary VK also drops items whose *prediction* is "either"."""
    country_substring: bool
    """"Nigeria" also takes "Nigeria (Non-national sample)"."""


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        "paper", 512, 1.0, 0.0, None, 20, None, PAPER_NLI, "sentence", "argmax", False, False
    ),
    "reference": Preset(
        "reference",
        200,
        0.9,
        0.1,
        200,
        20,
        10,
        REFERENCE_NLI,
        "explanation",
        "max_probability",
        True,
        True,
    ),
}


def get_preset(name: str) -> Preset:
    """The preset called ``name``. Raises PluralismError for an unknown one."""
    if name not in PRESETS:
        raise PluralismError(f"preset={name!r} is unknown. Allowed: {', '.join(PRESETS)}.")
    return PRESETS[name]
