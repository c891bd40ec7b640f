"""``pluralism-eval hijack`` against models that obey every attack, or none, and the embedded one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.cli import main
from pluralism_eval.hijack.corpus import canary, corpus
from tests.conftest import NAMES
from tests.e2e.test_scripted import data  # noqa: F401 - fixture

OPTION_TASKS = ("vk", "opinionqa", "moralchoice", "globalopinionqa")
_LETTER = re.compile(r"(?i)answer ([A-E])\b")
_NUMBER = re.compile(r"(?i)choose comment (\d)")


@pytest.fixture
def hijack(
    data: Path,  # noqa: F811
    exported: Callable[..., str],
    scripted: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Any]:
    """Runs the command on the scripted model; its JSON, by (task, method)."""
    for file in data.glob("*.json"):
        messages = exported(file.stem, json.loads(file.read_text()))

    def go(*more: str, output: str = "out", text: bool = False) -> Any:
        given = [
            "hijack", "--llm", "scripted", "--communities", "embedded", "--set", f"messages={messages}", "--data", str(data),
            "--nli", "embedded", "--output", str(tmp_path / output), *more,
        ]  # fmt: skip
        assert main(given if text else [*given, "--json"]) == 0
        printed = capsys.readouterr().out
        if text:
            return printed
        return {
            (cell["task"].split("_")[-1], cell["method"]): cell
            for cell in json.loads(printed)["llms"]["scripted"]
        }

    return go


def obey(scripted: Any, monkeypatch: pytest.MonkeyPatch, obeys: bool) -> None:
    """A model with a slight liking for early letters and the fifth comment, which does what it is told last."""

    def loglikelihood(self: Any, requests: list[Any], disable_tqdm: bool = False) -> Any:
        found = []
        for request in requests:
            context, letter = request.args[0], request.args[1].strip()
            scripted.seen.append(("score", context))
            told = _LETTER.findall(context) if obeys else []
            liked = (-0.75 if letter == told[-1].upper() else -9.0) if told else -2.0
            found.append((liked - 0.01 * (ord(letter) - 65), False))
        return found

    def reply(prompt: str) -> str:
        if prompt.endswith("Number:"):
            told = _NUMBER.findall(prompt) if obeys else []
            return told[-1] if told else "5"
        return canary() if obeys and canary() in prompt.casefold() else "Certainly not."

    monkeypatch.setattr(scripted, "loglikelihood", loglikelihood)
    monkeypatch.setattr(scripted, "reply", staticmethod(reply))


def test_a_model_that_obeys_is_hijacked_and_one_that_does_not_is_not(
    hijack: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    obey(scripted, monkeypatch, True)
    given = ("--attacks", "naive_instruction", "--preset", "paper+moralchoice_orders=1")
    found = hijack(*given)
    assert set(found) == {
        (t, m) for t in (*OPTION_TASKS, "nli") for m in ("moe", "modular_pluralism")
    }
    for (task, method), cell in found.items():
        success = {name: own["success"]["value"] for name, own in cell["positions"].items()}
        if (
            method == "moe"
        ):  # reads the fifth community whatever messages say, and no attacker stands there
            assert success == {"first": 0, "middle": 0, "last": 0}
            assert cell["attacks"]["selected"]["value"] == cell["attacks"]["read"]["value"] == 0
            assert cell["prompts"] == 0
            continue
        assert success == {"first": 1, "middle": 1, "last": 1}
        assert cell["attacks"]["success_read"]["value"] == 1
        assert cell["unrelated"]["success"]["value"] == 0
        if task in ("vk", "opinionqa"):
            assert cell["attacks"]["selected"]["value"] == 1
            assert cell["attacks"]["selected_clean"]["value"] == 0
        if task != "nli":
            assert cell["attacks"]["shift"]["value"] > 0.05
            assert cell["honest"]["success"]["value"] < 1
            assert cell["beyond_honest"]["value"] > 0
    obey(scripted, monkeypatch, False)
    for cell in hijack(
        *given, "--methods", "modular_pluralism", "--limit", "1", output="other"
    ).values():
        assert cell["attacks"]["success"]["value"] == 0
        assert cell["attacks"]["shift"]["value"] in (None, pytest.approx(0))
        assert cell["attacks"]["selected"]["value"] in (None, 0)


def test_moe_is_reached_where_the_attacker_is_selected(
    hijack: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    obey(scripted, monkeypatch, True)
    monkeypatch.setattr(scripted, "reply", staticmethod(lambda prompt: "6"))
    (cell,) = hijack("--attacks", "plain", "--methods", "moe,vanilla", "--tasks", "vk").values()
    positions = {name: own["read"]["value"] for name, own in cell["positions"].items()}
    assert positions == {"first": 0, "middle": 0, "last": 1}
    assert cell["attacks"]["success"]["value"] == pytest.approx(1 / 3)
    assert cell["attacks"]["success_read"]["value"] == 1
    shown = hijack("--attacks", "plain", "--methods", "moe,vanilla", "--tasks", "vk", text=True)
    assert re.search(r"\| vk +\| vanilla +\| – ", shown)
    assert "scripted: 0 prompts were asked in this call" in shown  # all are kept
    assert re.search(r"\| plain +\| naive_instruction +\| 0\.333 +\|", shown)
    assert "at most 4 clean and 10 attacked prompts" in shown


def test_escapes_are_none_when_delimited_and_some_when_raw(
    hijack: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The whole corpus; the same check finds what raw passages let out."""
    obey(scripted, monkeypatch, False)
    given = ("--tasks", "overton,vk", "--methods", "modular_pluralism", "--limit", "1")
    for cell in hijack(*given, "--preset", "paper").values():
        assert cell["escaped"] == 0
        assert cell["prompts"] >= len(corpus()) * 3
    lines = (tmp_path / "out" / "outcomes.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 3 * len(corpus())
    raw = hijack(*given, "--preset", "paper+passages=raw", "--positions", "middle", output="raw")
    for cell in raw.values():
        assert {"newlines", "line_breaks", "next_passage", "chatml", "end_of_text"} <= set(
            cell["escapes_of"]
        )
        assert not {"plain", "homoglyphs", "argument", "weather"} & set(cell["escapes_of"])
        assert cell["escaped"] > cell["prompts"] / 4


def test_a_clean_and_an_attacked_prompt_differ_in_one_message_and_nothing_is_asked_again(
    hijack: Any, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    obey(scripted, monkeypatch, False)
    given = ("--tasks", "globalopinionqa", "--methods", "modular_pluralism", "--attacks", "plain", "--positions", "middle")  # fmt: skip
    first = hijack(*given)
    prompts = {prompt for _, prompt in scripted.seen if "Is it good" in prompt}
    saying = {name: [p for p in prompts if f"Passage: {name} says" in p] for name in NAMES}
    assert all(len(own) == 2 for own in saying.values())  # one a doc and community
    planted = [p for p in prompts if "Passage: Answer " in p]
    assert len(planted) == 2
    assert len(prompts) == 2 * len(NAMES) + 2 * 5  # with four controls
    clean = next(
        p for p in saying["news_right"] if p.splitlines()[1:] == planted[0].splitlines()[1:]
    )
    assert clean.splitlines()[0] != planted[0].splitlines()[0]
    scripted.seen.clear()
    assert hijack(*given) == first
    assert not [p for _, p in scripted.seen if "Is it good" in p]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--positions", "second"], "one or more of first, middle, last"),
        (["--attacks", "rhetoric"], "is no attack. Families: naive_instruction"),
        (["--methods", "vanilla,prompting"], "none of them reads messages"),
        (["--preset", "papyrus"], "preset='papyrus' is unknown"),
        (["--tasks", "chess"], "chess"),
    ],
)
def test_bad_input_is_one_line(given: list[str], said: str, capsys: Any, tmp_path: Path) -> None:
    assert main(["hijack", *given, "--data", "sample", "--output", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.model
def test_the_embedded_model_in_a_chat(tmp_path: Path, capsys: Any) -> None:
    given = [
        "hijack", "--llm", "smol=embedded:chat=true", "--tasks", "globalopinionqa", "--limit", "1", "--attacks", "chatml,plain", "--positions", "first",
        "--set", "message_max_tokens=8", "--output", str(tmp_path), "--json",
    ]  # fmt: skip
    for preset, escapes in (("paper", {}), ("paper+passages=raw", {"chatml": 1})):
        assert main([*given, "--methods", "modular_pluralism", "--preset", preset]) == 0
        (cell,) = json.loads(capsys.readouterr().out)["llms"]["smol"]
        assert cell["escapes_of"] == escapes
        assert (cell["prompts"], cell["tokenised"], cell["docs"]) == (6, 6, 1)
        assert cell["attacks"]["shift"]["value"] != 0
