"""Over-long messages through lm-eval: the window holds, nothing but messages is cut, every cut is recorded."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate

from pluralism_eval.errors import PluralismError
from tests.conftest import NAMES, ScriptedLM
from tests.unit.test_passages import frame

DOCS, WINDOW = 44, 150
WORDS = [
    "people",
    "often",
    "say",
    "that",
    "this",
    "depends",
    "on",
    "how",
    "one",
    "was",
    "raised",
    "and",
    "what",
    "others",
    "need",
]
OPTIONS = ["Good", "Bad", "Refused"]
QUESTION = "Question {i}: Is it good?\nOptions: A. Good B. Bad C. Refused\nAnswer:"
TASKS = {"distributional_globalopinionqa": 1, "steerable_opinionqa": 1, "overton_nli": 30}
"""Task → tokens of its reply."""
Run = Callable[..., list[dict[str, Any]]]


def talk(chance: random.Random) -> str:
    """A message of 3 to 400 words, in sentences and lines; often far too long."""
    words = [chance.choice(WORDS) for _ in range(chance.choice([3, 12, 150, 200, 400]))]
    for i in range(0, len(words), 9):
        words[i] = words[i].capitalize()
        words[i - 1] += chance.choice([".", ".\n", "!\n\n"])
    return " ".join(words)


@pytest.fixture
def run(tmp_path: Path, scripted: Any, task_manager: Callable[..., Any]) -> Run:
    chance = random.Random(7)
    names = {
        "globalopinionqa": "distributional_test_globalopinionqa",
        "opinionqa": "steerable_test_opinionqa",
        "vk": "overton_test_valuekaleidoscope",
    }
    data, messages = tmp_path / "data", tmp_path / "messages"
    data.mkdir()
    messages.mkdir()
    survey = {"options": OPTIONS, "gold_distribution": [0.2, 0.7, 0.1], "pred_distribution": None}
    items: dict[str, list[dict[str, Any]]] = {
        "globalopinionqa": [{**survey, "attribute": "Japan", "id": i, "question": QUESTION.format(i=i)} for i in range(DOCS)],
        "opinionqa": [{**survey, "attribute": "RELIG_Jewish", "id": i, "question": QUESTION.format(i=i)} for i in range(DOCS)],
        "vk": [{"id": i, "situation": f"S{i}", "vrd": ["Care"], "explanation": ["Caring matters."], "input": f"Please comment: S{i}."}
               for i in range(DOCS)],
    }  # fmt: skip
    for short, name in names.items():
        (data / f"{name}.json").write_text(json.dumps(items[short]))
        for community in NAMES:
            texts = {str(i): talk(chance) for i in range(DOCS)}
            (messages / f"{name}_mistral-{community}.json").write_text(json.dumps(texts))

    def go(task: str, window: int, **settings: Any) -> list[dict[str, Any]]:
        results = simple_evaluate(
            model="modular_pluralism",
            model_args={
                "llm": "scripted", "llm_args": {"max_length": window}, "communities": "embedded",
                "messages": str(messages), "transcript": str(tmp_path / "t.jsonl"), **settings,
            },
            tasks=[f"pluralism_{task}"],
            task_manager=task_manager(
                data=str(data), nli="embedded", **{k: v for k, v in settings.items() if k == "orders"}
            ),
            bootstrap_iters=0,
            predict_only=True,
            gen_kwargs={"max_gen_toks": 30} if task == "overton_nli" else None,
        )  # fmt: skip
        go.rates = results["config"]["pluralism"]["rates"]  # type: ignore[attr-defined]
        return [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]

    return go


def test_the_window_holds_and_only_messages_are_cut(run: Run) -> None:
    """Over 500 prompts that are too long."""
    assert sum(over_long(run, task, reply) for task, reply in TASKS.items()) >= 500


def over_long(run: Run, task: str, reply: int) -> int:
    """How many of a run's prompts were too long, each of them checked."""
    count = ScriptedLM().tok_encode
    orders = {} if task == "overton_nli" else {"orders": 2}
    seen = {}
    for window in (100_000, WINDOW):
        entries = run(task, window, **orders)
        seen[window] = {(e["doc_id"], i): s for e in entries for i, s in enumerate(e["sent"])}
    whole = seen[100_000]
    assert not any(s["tokens_cut"] for s in whole.values())
    lost = 0
    for place, sent in seen[WINDOW].items():
        room = WINDOW - (20 if sent["round"] == "select" else reply)
        assert len(count(sent["prompt"])) <= room
        assert sent["tokens_cut"] == sum(sent["cuts"].values())
        assert set(sent["cuts"]) <= set(NAMES)
        full = whole[place]["prompt"]
        assert (sent["tokens_cut"] > 0) == (len(count(full)) > room)
        lost += sent["tokens_cut"] > 0
        own, all_of_it = frame(sent["prompt"]), frame(full)
        assert len(own) == len(all_of_it)
        for line, original in zip(own, all_of_it, strict=True):
            told = original.startswith(("Passage", "Comment "))
            assert line == original or (told and original.startswith(line.rstrip()))
    share = run.rates[f"pluralism_{task}"]["prompts_with_passages_cut"]  # type: ignore[attr-defined]
    assert share == lost / len(whole)
    return lost


def test_what_cannot_fit_is_an_error_before_anything_or_a_counted_skip(
    run: Run, scripted: Any
) -> None:
    with pytest.raises(PluralismError, match=r"44 of 44 queries do not fit the LLM.*overlong=skip"):
        run("distributional_globalopinionqa", 20)
    assert all(kind == "score" and "1 or 2" in prompt for kind, prompt in scripted.seen)
    scripted.seen.clear()
    entries = run("distributional_globalopinionqa", 20, overlong="skip")
    assert all("1 or 2" in prompt for _, prompt in scripted.seen)
    assert len(entries) == DOCS
    assert all("without any passage" in e["skipped"] and e["option_mass"] == 0 for e in entries)
    rates = run.rates["pluralism_distributional_globalopinionqa"]  # type: ignore[attr-defined]
    assert rates["skipped_docs"] == 1
