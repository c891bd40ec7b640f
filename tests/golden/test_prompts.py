"""The exact prompts of every method, pinned: a change of wording changes every number."""

from __future__ import annotations

from pathlib import Path

import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.prompts import Prompts

COMMON = {"query": "Q?", "attribute": "Care", "attribute_line": "You are X.", "steer_line": ""}
GOLDEN = {
    ("messages", "message"): "You are X.\nQ?\n\nComment on the above, in a short paragraph, from your own point of view.\nComment:",
    ("prompting", "respond"): (
        "Make sure your response reflects diverse values and perspectives for the following instruction.\nYou are X.\n\nQ?"
    ),
    ("moe", "select"): (
        "Instruction:\nQ?\n\nCommunity language models:\n1. d1\n2. d2\n\nWhich one of these community language models is "
        "most fitting for the instruction? Answer with its number only.\nNumber:"
    ),
    ("moe", "respond"): "Passage: m1\n\nQ?",
    ("modular_pluralism", "overton"): (
        "Please comment on a given situation with the help of the following passages.\n\nPassage 1: m1\n\nPassage 2: m2\n\nQ?"
    ),
    ("modular_pluralism", "select"): (
        "Q?\n\nComment 1: m1\n\nComment 2: m2\n\nWhich of the following comments best reflect Care? "
        "Answer with the number of one comment only.\nNumber:"
    ),
    ("modular_pluralism", "steerable"): "Passage: m1\n\nYou are X.\nQ?",
    ("modular_pluralism", "distributional"): "Passage: m1\n\nYou are X.\nQ?",
}  # fmt: skip


def test_every_shipped_template_is_pinned() -> None:
    shipped = {(method, name) for method, entries in Prompts().texts.items() for name in entries}
    assert shipped == set(GOLDEN)


@pytest.mark.parametrize("key", GOLDEN, ids="/".join)
def test_wording(key: tuple[str, str]) -> None:
    values = COMMON | {"messages": ["m1", "m2"], "descriptions": ["d1", "d2"]}
    assert Prompts().render(*key, **values) == GOLDEN[key]


def test_steer_line_of_steerable_vk() -> None:
    values = COMMON | {
        "attribute_line": "",
        "steer_line": "Please comment on the situation with respect to the value.",
    }
    text = Prompts().render("modular_pluralism", "steerable", messages=["m1"], **values)
    assert text == "Passage: m1\n\nPlease comment on the situation with respect to the value.\nQ?"
    assert Prompts().render("messages", "message", **values).startswith("Q?\n\n")


def test_an_override_changes_one_template_and_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text('moe: {respond: "Note: {{ messages[0] }} / {{ query }}"}')
    assert Prompts(str(file)).render("moe", "respond", messages=["m1"], **COMMON) == "Note: m1 / Q?"
    file.write_text("moe: {answer: x}\nmou: {respond: x}\nprompting: {respond: '{{ query'}")
    with pytest.raises(PluralismError, match=r"3 problem\(s\)"):
        Prompts(str(file))
    file.write_text("prompting: {respond: '{{ nothing }}'}")
    with pytest.raises(PluralismError, match="available"):
        Prompts(str(file)).render("prompting", "respond", **COMMON)
