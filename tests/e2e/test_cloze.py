"""readout=cloze and chat=true through lm-eval itself, with a model whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.requests import option_queries, render_direct
from tests.conftest import ScriptedLM, scripted_logprob
from tests.e2e.test_scripted import METHODS, data, in_listed_order, run

__all__ = ["data", "run"]  # fixtures
TASKS = ("steerable_vk", "steerable_opinionqa", "distributional_moralchoice", "distributional_globalopinionqa")  # fmt: skip


def shown(prompt: str, texts: list[str]) -> np.ndarray:
    p = np.exp([scripted_logprob(prompt, text) for text in texts])
    return p / p.sum()


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", TASKS)
def test_every_method_on_every_option_task(
    run: Callable[..., Any], method: str, task: str, chat: bool
) -> None:
    results = run(method, f"pluralism_{task}", readout="cloze", chat=chat)
    for sample, entry in zip(
        results["samples"][f"pluralism_{task}"], results["transcript"], strict=True
    ):
        got = np.array([r[0] for r in sample["filtered_resps"]], dtype=float)
        options = sample["doc"]["pluralism"]["options"]
        answered = [s["prompt"] for s in entry["sent"] if s["round"] == "respond"]
        readings = entry.get("readings") or [{"order": list(range(len(options)))}]
        each = len(answered) // len(readings)
        gap = "" if chat else " "
        parts = []
        for i, prompt in enumerate(answered):
            order = readings[i // each]["order"]
            parts.append(shown(prompt, [gap + options[o].strip() for o in order]))
            assert "Options:" not in prompt
            assert "Answer:" not in prompt
            assert prompt.startswith("<user>") == prompt.endswith("<assistant>") == chat
        expected = np.mean(in_listed_order(entry, parts), axis=0)
        np.testing.assert_allclose(np.exp(got) / np.exp(got).sum(), expected, atol=1e-12)
        assert len(answered) == len(readings) * (
            6 if method == "modular_pluralism" and "distributional" in task else 1
        )


def test_pmi_is_against_the_question_alone(run: Callable[..., Any]) -> None:
    settings: dict[str, Any] = {"readout": "cloze", "cloze_normalisation": "pmi"}
    task = "pluralism_distributional_globalopinionqa"
    for entry in run("vanilla", task, **settings)["transcript"]:
        np.testing.assert_allclose(entry["distribution"], [1 / 3] * 3, atol=1e-12)
    results = run("prompting", task, **settings)
    for sample, entry in zip(results["samples"][task], results["transcript"], strict=True):
        options = [f" {o}" for o in sample["doc"]["pluralism"]["options"]]
        (sent,) = entry["sent"]
        alone = sample["doc"]["query"].split("\nOptions:")[0]
        ratio = np.log(shown(sent["prompt"], options)) - np.log(shown(alone, options))
        np.testing.assert_allclose(entry["distribution"], np.exp(ratio) / np.exp(ratio).sum(), atol=1e-9)  # fmt: skip


class Request:
    """As lm-eval makes them."""

    request_type = "loglikelihood"
    task_name, doc_id, idx, repeats = "pluralism_x", 0, 0, 1

    def __init__(self, text: str, query: str, ours: bool = True) -> None:
        self.args = (text, " A")
        self.doc = {"pluralism": {"letters": ["A"], "options": ["Yes"], "query": query, "mode": "distributional"}} if ours else {}  # fmt: skip


def test_few_shot_examples_are_refused_in_a_cloze() -> None:
    from pluralism_eval.presets import get_preset
    from pluralism_eval.settings import parse

    query = "Is it?\nA. Yes\nAnswer:"
    for readout, refused in (("cloze", True), ("options", False)):
        settings = parse("vanilla", {"llm": "scripted", "readout": readout})
        request = Request(f"Was it?\nA. Yes\nAnswer: A\n\n{query}", query)
        request.doc["pluralism"] |= {"preset": settings.preset, "orders_given": settings.orders}
        if refused:
            with pytest.raises(PluralismError, match=r"few-shot examples .* --num_fewshot 0"):
                option_queries([request], settings, get_preset("paper"))
            request.args = (query, " A")
        option_queries([request], settings, get_preset("paper"))


def test_chat_concerns_our_tasks_only(
    run: Callable[..., Any], scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vanilla's generations too; another task's requests go on as they are."""
    monkeypatch.setattr(scripted, "reply", staticmethod(lambda prompt: "It matters."))
    run("vanilla", "pluralism_overton_nli", chat=True)
    sent = [prompt for kind, prompt in scripted.seen if kind == "generate"]
    assert sent == [f"<user>Please comment: {s}.</><assistant>" for s in "ST"]
    from pluralism_eval.llm.harness import HarnessLLM

    llm, foreign = HarnessLLM(ScriptedLM(), "scripted"), Request("Two and two?", "", ours=False)
    assert render_direct(foreign, llm, chat_ours=True) is foreign
