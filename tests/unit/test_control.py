"""The planted society: its content, its shuffled messages, and the verdicts on LLMs that obey, ignore or invert."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.control import effects, planted, shuffled
from pluralism_eval.control.build import built
from pluralism_eval.control.town import gold, town
from pluralism_eval.data.docs import load_docs
from pluralism_eval.reproduce.build import Options
from pluralism_eval.study import StudyLLM
from tests.conftest import ScriptedLM


def test_what_ships_is_built_of_the_town() -> None:
    root = Path(str(files("pluralism_eval")))
    for path, content in built(town()).items():
        assert (root / path).read_text(encoding="utf-8") == content, path


@pytest.mark.parametrize("task", planted.TASKS)
def test_every_item_loads(task: str) -> None:
    n = len(load_docs(task, "control", nli="embedded")["test"])
    assert n == (160 if task == "vk" else 40)


def test_golds_are_mixtures_by_size() -> None:
    for question in town().questions:
        assert math.isclose(sum(gold(town(), question)), 1)


def test_partners_are_about_something_else() -> None:
    clusters = {"0": "a", "1": "b", "2": "a", "3": "c"}
    found = shuffled.partners(clusters)
    assert all(clusters[item] != clusters[other] for item, other in found.items())


def _obeys(prompt: str, option: str) -> float:
    return -0.01 if option in prompt.split("Passage:")[-1].split("\n")[0] else -9.0


RULES: dict[str, Callable[[str, str], float]] = {
    "obeys": _obeys,
    "deaf": lambda prompt, option: -1.0 - len(option) / 7,
    "inverts": lambda prompt, option: -9.01 - _obeys(prompt, option),
}


def _writes(prompt: str, comment: str) -> float | None:
    """How it would write ``comment``: more readily where it names the attribute that is asked for."""
    if prompt.endswith("Write a comment."):
        return -9.0
    asked = re.findall(r"best reflects (.+)\.$", prompt)
    return (-0.5 if asked[0].lower() in comment.lower() else -9.0) if asked else None


@pytest.mark.parametrize("rule", RULES)
def test_verdicts(
    rule: str, scripted: type[ScriptedLM], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(self: Any, requests: list[Any], disable_tqdm: bool = False) -> Any:
        self.seen.extend(("score", r.args[0]) for r in requests)
        pairs = [(r.args[0], r.args[1].strip()) for r in requests]
        written = [_writes(*pair) for pair in pairs]
        return [
            (RULES[rule](*pair) if value is None else value, False)
            for pair, value in zip(pairs, written, strict=True)
        ]

    monkeypatch.setattr(scripted, "loglikelihood", score)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = Options(settings={"readout": "cloze"})
    docs = {"vk": 24, "globalopinionqa": 24}
    samples, runs = planted.run(StudyLLM("scripted", "scripted"), options, docs, tmp_path, str)
    found = {e.title: e for e in effects.effects(samples, effects.tests(samples))}
    for title in ("Distr. GlobalOpinionQA: J-S", "Steerable VK: accuracy"):
        assert found[title].detected == (rule == "obeys"), found[title]
        assert found[f"{title}, instrument"].detected
        if rule == "inverts":
            assert "goes against its messages" in found[title].why
        if rule == "deaf":
            assert "deaf" in found[title].why
    assert planted.fitting_picks(runs[effects.OURS]) == (24, 24)
