"""What a server refuses: labelled, counted, not kept, and never read as an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate

from tests.openai_server import Ask, Refusal, Scripted, Server

TASKS = ["pluralism_overton_nli", "pluralism_distributional_moralchoice"]


def run(url: str, manager: Any, transcript: Path, readout: str) -> dict[str, Any]:
    found: dict[str, Any] = simple_evaluate(
        model="vanilla",
        model_args={
            "llm": "openai", "llm_args": {"model": "model", "base_url": url, "concurrency": 1}, "orders": 1,
            "readout": readout, "transcript": str(transcript),
        },
        tasks=TASKS, task_manager=manager, limit=2, bootstrap_iters=0,
    )  # fmt: skip
    return found


@pytest.mark.parametrize("readout", ["options", "generated", "sampled"])
def test_refusals(task_manager: Callable[..., Any], tmp_path: Path, readout: str) -> None:
    first: dict[bool, str] = {}

    def rule(ask: Ask, i: int) -> str:
        """Refuses the first doc of each task, in words that begin with a letter."""
        prompt = str(ask.prompt)
        if "Which letter comes first" in prompt:  # the probe
            return "A"
        has_options = "A. " in prompt
        refuses = first.setdefault(has_options, prompt) == prompt
        return Refusal("A. I cannot help with that.") if refuses else "A"

    manager = task_manager(data="sample", nli="embedded", orders=1)
    with Server(Scripted(rule=rule)) as server:
        run(server.url, manager, tmp_path / "1.jsonl", readout)
        before = len(server.ledger.requests)
        found = run(server.url, manager, tmp_path / "2.jsonl", readout)
        again = len(server.ledger.requests) - before
    lines = [json.loads(line) for line in (tmp_path / "2.jsonl").read_text().splitlines()]
    hit = [e for e in lines if e["sent"][0]["refused"]]
    assert {e["sent"][0]["refused"] for e in hit} == {"refusal"}
    assert (len(hit), len(lines)) == (2, 4)
    for entry in hit:
        if "option_mass" in entry:
            assert entry["option_mass"] == 0  # "A." was in the words of the refusal
        else:
            assert entry["response"] == ""
    ours = found["config"]["pluralism"]
    assert sum(rates["refused_prompts"] * rates["prompts"] for rates in ours["rates"].values()) == (
        len(hit)
    )
    assert ours["api"]["llm"]["refusals"] > 0
    assert again <= 2 + 1  # what was refused is asked again, nothing else (and the list of models)
