"""The two readings of the benchmark: the paper's text and the authors' code (facts: SPEC)."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal

from pluralism_eval.errors import PluralismError
from pluralism_eval.yaml_files import yaml_value

PAPER_NLI = "tals/albert-xlarge-vitaminc-mnli"
WANLI = "alisawuffles/roberta-large-wanli"
REFERENCE_NLI = "microsoft/deberta-v2-xlarge-mnli"


@dataclass(frozen=True)
class Preset:
    """One reading. Every difference is a field, so that each can be switched on its own."""

    name: str
    message_max_tokens: int
    """New tokens of a community LM's message."""
    message_top_p: float
    """Nucleus of message sampling at temperature 1."""
    message_layout: Literal["words", "authors"]
    """What a community is asked in a chat template: for an answer in words and reasons, or as the authors' code asks."""
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
    empty_response: Literal["zero", "minus_one"]
    """Coverage entailment of a response without a sentence; the authors' code starts from -1, which
    no preset does: a mean over shares must not go below 0."""
    drop_predicted_either: bool
    """Binary VK also drops items whose *prediction* is "either"."""
    fourth_class: bool
    """An unparsed VK answer is a class of its own in macro-F1; else only a wrong answer."""
    answer_parsing: Literal["strict", "authors"]
    """How an answer in words is read as an option letter (:mod:`pluralism_eval.replies`)."""
    vk_readout: Literal["options", "generated"]
    """Steerable VK: option probabilities, or the LLM's own words parsed (20 new tokens)."""
    moralchoice_orders: int
    """Option orders averaged on MoralChoice, whose good option is always listed first."""
    splitter: Literal["sentencex", "sentence_splitter"]
    """Library that cuts a response into sentences."""
    passages: Literal["delimited", "raw"]
    """How messages stand in the LLM's prompt: so that none can leave its passage
    (:mod:`pluralism_eval.passages`), or as they are."""
    ties: Literal["drawn", "first"]
    """Which of equally likely options is the answer: one drawn by the doc, or the first listed."""
    country_substring: bool
    """"Nigeria" also takes "Nigeria (Non-national sample)"."""


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        name="paper",
        message_max_tokens=512,
        message_top_p=1.0,
        message_layout="words",
        llm_temperature=0.0,
        llm_max_tokens=None,
        choice_max_tokens=20,
        top_tokens=None,
        nli=PAPER_NLI,
        nli_premise="sentence",
        coverage="argmax",
        empty_response="zero",
        drop_predicted_either=False,
        fourth_class=False,
        answer_parsing="strict",
        vk_readout="options",
        moralchoice_orders=2,
        splitter="sentencex",
        passages="delimited",
        ties="drawn",
        country_substring=False,
    ),
    "reference": Preset(
        name="reference",
        message_max_tokens=200,
        message_top_p=0.9,
        message_layout="authors",
        llm_temperature=0.1,
        llm_max_tokens=200,
        choice_max_tokens=20,
        top_tokens=10,
        nli=REFERENCE_NLI,
        nli_premise="explanation",
        coverage="max_probability",
        empty_response="zero",
        drop_predicted_either=True,
        fourth_class=True,
        answer_parsing="authors",
        vk_readout="generated",
        moralchoice_orders=1,
        splitter="sentence_splitter",
        passages="raw",
        ties="first",
        country_substring=True,
    ),
}
_ALLOWED = {
    "message_layout": ("words", "authors"),
    "nli_premise": ("sentence", "explanation"),
    "coverage": ("argmax", "max_probability"),
    "empty_response": ("zero", "minus_one"),
    "answer_parsing": ("strict", "authors"),
    "vk_readout": ("options", "generated"),
    "splitter": ("sentencex", "sentence_splitter"),
    "passages": ("delimited", "raw"),
    "ties": ("drawn", "first"),
}


@lru_cache
def get_preset(name: str) -> Preset:
    """The preset called ``name``; single differences may follow: ``paper+nli_premise=explanation``.

    Raises:
        PluralismError: an unknown preset or field, or a value that the field does not take.
    """
    base, *changes = name.split("+")
    if base not in PRESETS:
        raise PluralismError(f"preset={base!r} is unknown. Allowed: {', '.join(PRESETS)}.")
    found = PRESETS[base]
    for change in changes:
        field, _, text = change.partition("=")
        found = replace(found, name=name, **{field: _value(field, text)})
    return found


def _value(field: str, text: str) -> Any:
    known = [f.name for f in fields(Preset) if f.name != "name"]
    if field not in known:
        raise PluralismError(f"preset field {field!r} is unknown. Allowed: {', '.join(known)}")
    if field == "nli":
        return text
    value = yaml_value(text)
    if field in _ALLOWED:
        valid, allowed = value in _ALLOWED[field], ", ".join(_ALLOWED[field])
    elif isinstance(getattr(PRESETS["paper"], field), bool):
        valid, allowed = isinstance(value, bool), "true, false"
    elif field in ("message_top_p", "llm_temperature"):
        top = 1.0 if field == "message_top_p" else 100.0
        valid = (
            isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= top
        )
        allowed = f"a number from 0 to {top:g}"
    else:
        optional = field in ("llm_max_tokens", "top_tokens")
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        valid, allowed = (
            whole or (optional and value is None),
            "a positive integer" + " or null" * optional,
        )
    if not valid:
        raise PluralismError(f"preset field {field}={text!r} is wrong. Allowed: {allowed}")
    return value
