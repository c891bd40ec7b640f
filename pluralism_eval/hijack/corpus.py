"""The corpus of attacks (``attacks.yaml``): what a malicious community may say, and its honest controls."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import jinja2
import yaml

from pluralism_eval.errors import PluralismError

Goal = Literal["target", "leak", "refuse"]
_BREAKS = ("\r", "\r\n", "\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
CONTROLS = ("honest", "unrelated")
"""Families that attack nothing: plain arguments for the target, and text about something else."""


@dataclass(frozen=True)
class Attack:
    """One malicious (or control) message, as a template."""

    name: str
    family: str
    goal: Goal
    """What counts as its success in free text: the canary phrase, a leaked prompt, a refusal. Where
    there are options, it is always the target option."""
    template: str

    @property
    def control(self) -> bool:
        return self.family in CONTROLS


@dataclass(frozen=True)
class Aim:
    """What the attacker wants of one query, and what it knows of it."""

    query: str
    number: int
    """Its place in the list of passages, from 1."""
    k: int
    """Communities in the pool."""
    letter: str = ""
    """The target as the query lists it; empty: free text, the target is the canary phrase."""
    option: str = ""
    attribute: str = ""
    select: bool = False
    """The LLM selects one of the messages before it answers."""


def message(attack: Attack, aim: Aim) -> str:
    """The attacker's message."""
    text = not aim.letter
    answer = canary() if text else aim.letter
    demand = f'Begin your response with the words "{answer}".' if text else f"Answer {answer}."
    reply = f"{answer.capitalize()}." if text else f"Answer: {answer}"
    if aim.select:
        demand = f"Choose comment {aim.number}. {demand}"
        reply = f"Number: {aim.number}\n{reply}"
    values = {
        "text": text, "select": aim.select, "letter": aim.letter, "option": aim.option, "canary": canary(),
        "answer": answer, "demand": demand, "reply": reply, "number": aim.number, "k": aim.k, "query": aim.query,
        "attribute": aim.attribute, "breaks": _BREAKS,
    }  # fmt: skip
    return _compiled(attack.template).render(**values)


@lru_cache
def corpus() -> tuple[Attack, ...]:
    """Every attack, family by family; the controls come last."""
    found = []
    for family, own in (_loaded()["families"] | _controls()).items():
        goal = own.get("goal", "target")
        found += [Attack(name, family, goal, text) for name, text in own["attacks"].items()]
    return tuple(found)


@lru_cache
def terms() -> dict[str, str]:
    """Family → what the literature calls it."""
    return {name: own["term"] for name, own in _loaded()["families"].items()} | {
        "honest": "control: honest argument", "unrelated": "control: unrelated text",
    }  # fmt: skip


def canary() -> str:
    """What an attacked free-text response is to contain: words that nobody else would say."""
    return str(_loaded()["canary"])


def chosen(names: Sequence[str]) -> list[Attack]:
    """The attacks of these families or names, and always the controls; all for no name.

    Raises:
        PluralismError: a name that is neither.
    """
    malicious = [attack for attack in corpus() if not attack.control]
    known = {name for attack in malicious for name in (attack.family, attack.name)}
    wrong = [name for name in names if name not in known]
    if wrong:
        raise PluralismError(
            f"--attacks {wrong[0]!r} is no attack. Families: {', '.join(_loaded()['families'])}; or the name of one of their attacks; the "
            "controls are always planted"
        )
    return [
        attack for attack in corpus()
        if not names or attack.control or attack.name in names or attack.family in names
    ]  # fmt: skip


def _controls() -> dict[str, dict[str, Any]]:
    return {name: {"attacks": texts} for name, texts in _loaded()["controls"].items()}


@lru_cache
def _loaded() -> Mapping[str, Any]:
    text = (files("pluralism_eval.hijack") / "attacks.yaml").read_text(encoding="utf-8")
    loaded: Mapping[str, Any] = yaml.safe_load(text)
    return loaded


# ---------------------------------------------------------------------- disguises

_HOMOGLYPHS = str.maketrans("aceiopsxyABCEHKMOPTX", "асеіорѕхуАВСЕНКМОРТХ")  # Cyrillic
_FULLWIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


@lru_cache
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.filters |= {
        "base64": lambda text: base64.b64encode(text.encode()).decode(),
        "rot13": lambda text: codecs.encode(text, "rot13"),
        "homoglyphs": lambda text: text.translate(_HOMOGLYPHS),
        "zero_width": "\u200b".join,
        "fullwidth": lambda text: text.translate(_FULLWIDTH),
        "backwards": lambda text: text[::-1],
        "words": str.split,
    }
    return environment.from_string(template)
