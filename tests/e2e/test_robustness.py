"""Orders, wordings, message samples and readouts through lm-eval, with models whose habits are known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval import simple_evaluate
from lm_eval.api.registry import model_registry

from pluralism_eval.data import build
from pluralism_eval.errors import PluralismError
from tests.conftest import TEST_DATA, ScriptedLM
from tests.openai_server import Reply, serve

TASK = "pluralism_distributional_moralchoice"


class AlwaysA(ScriptedLM):
    """Position bias at its purest: all probability on the letter A."""

    def loglikelihood(
        self, requests: list[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        return [(-0.7 if r.args[1].strip() == "A" else -math.inf, False) for r in requests]


@pytest.fixture
def run(
    scripted: Any, task_manager: Callable[..., Any], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    if "always_a" not in model_registry:
        model_registry.register("always_a", target=AlwaysA)

    def go(
        method: str, task: str = TASK, limit: int | None = 3, data: str = "sample", **settings: Any
    ) -> dict[str, Any]:
        path = tmp_path / "t.jsonl"
        shared = {k: settings[k] for k in ("preset", "orders") if k in settings}
        results: dict[str, Any] = simple_evaluate(
            model=method,
            model_args={
                "llm": "scripted",
                "llm_args": {"pretrained": tmp_path.name},  # shared with no other test
                "transcript": str(path),
            }
            | settings,
            tasks=[task],
            task_manager=task_manager(data=data, nli="embedded", **shared),
            limit=limit,
            bootstrap_iters=0,
        )
        results["transcript"] = [json.loads(line) for line in path.read_text().splitlines()]
        results["rates"] = results["config"]["pluralism"]["rates"][task]
        return results

    return go


@pytest.mark.skipif(not TEST_DATA.is_dir(), reason=f"no original scenarios at {TEST_DATA}")
def test_moralchoice_rebuilt_whole_always_first_under_one_order_and_both(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    """SPEC's figures on all 1,367 scenarios; averaging orders turns a position habit into uniform."""
    built = build.moralchoice(TEST_DATA / "moralchoice")
    assert (len(built.items), sum(built.dropped.values())) == (1367, 0)
    (tmp_path / "distributional_test_moralchoice.json").write_text(json.dumps(built.items))
    for orders, jsd, low, high in ((1, 0.2311, 0.0, 0.4645), (2, 0.2334, 0.4645, 0.0)):
        given = {} if orders == 2 else {"orders": 1}  # both orders are MoralChoice's default
        found = run("vanilla", llm="always_a", limit=None, data=str(tmp_path), **given)
        scores = found["results"][TASK]
        assert scores["jsd,none"] == pytest.approx(jsd, abs=5e-5)
        assert scores["jsd_low,none"] == pytest.approx(low, abs=5e-5)
        assert scores["jsd_high,none"] == pytest.approx(high, abs=5e-5)
        assert scores["jsd_uniform,none"] == pytest.approx(0.2334, abs=5e-5)
        assert scores["jsd_first,none"] == pytest.approx(0.2311, abs=5e-5)
        assert scores["jsd_first_averaged,none"] == pytest.approx(jsd, abs=5e-5)
        assert found["rates"].get("order_spread") == (None if orders == 1 else 1.0)
        assert found["rates"].get("docs_without_other_orders") == (None if orders == 1 else 0.0)


def test_wordings_are_averaged_and_their_spread_is_shown(run: Callable[..., Any]) -> None:
    found = run("prompting", orders=1, templates=3)
    for entry in found["transcript"]:
        assert len({s["prompt"] for s in entry["sent"]}) == 3
        assert [r["template"] for r in entry["readings"]] == [0, 1, 2]
        mean = np.mean([r["distribution"] for r in entry["readings"]], axis=0)
        assert entry["distribution"] == pytest.approx(mean.tolist())
    assert 0 < found["rates"]["template_spread"] <= 1
    with pytest.raises(PluralismError, match="vanilla has 1 wording"):
        run("vanilla", templates=2)
    with pytest.raises(PluralismError, match="has 3 wording"):
        run("moe", templates=4)


@pytest.mark.model
def test_message_samples_are_different_messages_and_the_first_is_the_shared_one(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    shared = {"communities": "embedded/news_left", "messages": str(tmp_path / "store"),
              "message_max_tokens": 24, "orders": 1, "limit": 1}  # fmt: skip
    one = run("modular_pluralism", **shared)
    two = run("modular_pluralism", message_samples=2, **shared)
    (first,), (both,) = one["transcript"], two["transcript"]
    texts = [m["text"] for m in both["messages"]]
    assert texts[0] == first["messages"][0]["text"] != texts[1]
    assert two["rates"]["messages_generated"] == 1
    assert two["rates"]["sample_spread"] > 0


def reply_with(scripted: Any, monkeypatch: pytest.MonkeyPatch, replies: list[str]) -> None:
    waiting = iter(replies * 1000)
    monkeypatch.setattr(scripted, "reply", staticmethod(lambda prompt: next(waiting)))
    monkeypatch.setattr(scripted, "can_score", False)  # as a chat API: no log-probabilities


def test_sampled_answers_are_frequencies_and_unread_replies_are_counted(
    run: Callable[..., Any], scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply_with(scripted, monkeypatch, ["A", "The answer is B.", "A. I stay", "no idea"])
    found = run("vanilla", readout="sampled", readout_samples=4, orders=1)
    for sample, entry in zip(found["samples"][TASK], found["transcript"], strict=True):
        assert entry["distribution"] == pytest.approx([2 / 3, 1 / 3])
        assert entry["option_mass"] == pytest.approx(0.75)
        assert entry["sent"][0]["scores"]["replies"][1] == "The answer is B."
        assert sample["option_mass"] == pytest.approx(0.75)
    assert (found["rates"]["replies"], found["rates"]["unread_replies"]) == (12, 0.25)
    assert sum(kind == "generate" for kind, _ in scripted.seen) == 12


def test_verbalised_percentages_and_what_an_unread_answer_scores(
    run: Callable[..., Any], scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reply_with(scripted, monkeypatch, ["A: 30%\nB: 70%", "I cannot say", "B: 5%, A: 95%"])
    found = run("prompting", readout="verbalised", orders=1)
    shares = [entry["distribution"] for entry in found["transcript"]]
    assert np.array(shares) == pytest.approx(np.array([[0.3, 0.7], [0.5, 0.5], [0.95, 0.05]]))
    assert [s["unparsed"] for s in found["samples"][TASK]] == [0, 1, 0]
    assert found["results"][TASK]["unparsed,none"] == pytest.approx(1 / 3)
    for _, prompt in scripted.seen:
        assert prompt.endswith("The percentages sum to 100.\nAnswer:")
        assert prompt.count("Answer:") == 1


def test_verbalised_communities_that_cannot_be_read_leave_the_mixture(
    run: Callable[..., Any], scripted: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    exported: Callable[..., str],
) -> None:  # fmt: skip
    from pluralism_eval.data.sources import input_file

    source = "distributional_test_moralchoice"
    messages = exported(source, json.loads(input_file("moralchoice", "sample").read_text()))
    reply_with(
        scripted, monkeypatch, ["A: 100% B: 0%", "A: 0% B: 100%", "?", "?", "?", "A: 50% B: 50%"]
    )
    found = run("modular_pluralism", readout="verbalised", orders=1, limit=1, messages=messages,
                communities="embedded", weights=[0.2, 0.1, 0.2, 0.2, 0.2, 0.1])  # fmt: skip
    (entry,) = found["transcript"]
    assert entry["distribution"] == pytest.approx([(0.2 + 0.05) / 0.4, (0.1 + 0.05) / 0.4])
    assert entry["option_mass"] == pytest.approx(0.4)
    assert found["rates"]["unread_replies"] == 0.5
    with pytest.raises(PluralismError, match="message_samples=2"):
        run("modular_pluralism", messages=messages, communities="embedded", message_samples=2)


def test_the_authors_read_vk_from_words_and_count_a_fourth_class(
    run: Callable[..., Any], scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = "pluralism_steerable_vk"
    reply_with(scripted, monkeypatch, ["It supports", "hm", "either"])
    found = run("vanilla", task=task, preset="reference")
    assert [s["acc"][1] for s in found["samples"][task]] == [0, 3, 2]
    assert found["results"][task]["unparsed,none"] == pytest.approx(1 / 3)
    with pytest.raises(PluralismError, match="no log-probabilities"):
        run("vanilla", task=task, preset="reference+vk_readout=options+top_tokens=null")
    with pytest.raises(PluralismError, match="no log-probabilities"):
        run("vanilla", task=task)


def test_a_task_loaded_otherwise_than_the_model_runs_is_an_error(
    scripted: Any, task_manager: Callable[..., Any], tmp_path: Path
) -> None:
    for loaded, given in (({}, {"preset": "reference"}), ({"orders": 1}, {})):
        with pytest.raises(PluralismError, match="was loaded with"):
            simple_evaluate(
                model="vanilla",
                model_args={"llm": "scripted", "transcript": str(tmp_path / "t.jsonl")} | given,
                tasks=[TASK], task_manager=task_manager(data="sample", **loaded), limit=1, bootstrap_iters=0,
            )  # fmt: skip


def test_a_settings_file_reaches_the_tasks_too(tmp_path: Path) -> None:
    from pluralism_eval.data.docs import load_docs

    config = tmp_path / "settings.yaml"
    config.write_text("preset: reference\norders: 3\n")
    doc = load_docs("moralchoice", data="sample", config=str(config))["test"][0]
    assert (doc["pluralism"]["preset"], doc["pluralism"]["orders"]) == ("reference", 3)
    doc = load_docs("moralchoice", data="sample", config=str(config), orders=1)["test"][0]
    assert doc["pluralism"]["orders"] == 1


def test_servers_with_one_fixed_seed_get_a_seed_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    from pluralism_eval.llm.harness import HarnessLLM

    llm = HarnessLLM(object(), "api")
    calls: list[tuple[list[str], dict[str, Any]]] = []

    def generate(prompts: list[str], settings: dict[str, Any]) -> list[str]:
        calls.append((list(prompts), dict(settings)))
        return [f"{prompt}{settings.get('seed')}" for prompt in prompts]

    monkeypatch.setattr(llm, "generate", generate)
    monkeypatch.setattr(HarnessLLM, "_fixed_seed", True)
    assert llm.sample(["p", "q"], {"t": 1}, 2) == [["p0", "p1"], ["q0", "q1"]]
    assert llm.sample(["p"], {"t": 1}, 1) == [["pNone"]]
    monkeypatch.setattr(HarnessLLM, "_fixed_seed", False)
    calls.clear()
    assert llm.sample(["p", "q"], {}, 2) == [["pNone", "pNone"], ["qNone", "qNone"]]
    assert [prompts for prompts, _ in calls] == [["p", "p", "q", "q"]]


@pytest.mark.parametrize("readout", ["sampled", "verbalised", "generated"])
def test_a_chat_api_runs_option_tasks_without_logprobs(
    readout: str, task_manager: Callable[..., Any], tmp_path: Path
) -> None:
    """lm-eval's own client of chat APIs, over HTTP, for all four kinds of option task."""
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> Reply:
        bodies.append(body)
        asked = body["messages"][-1]["content"]
        if "percentage" in asked:
            letters = [x for x in "ABCDE" if f"{x}. " in asked]
            text = "\n".join(f"{x}: {100 / len(letters):.2f}%" for x in letters)
        else:  # a sampler that ignores its seed would always say the same
            text = "B" if body["seed"] % 4 == 0 else "A"
        return text, 1, "stop", None

    with serve(["m"], answer) as url:
        results = simple_evaluate(
            model="vanilla",
            model_args={
                "llm": "local-chat-completions", "readout": readout, "readout_samples": 4,
                "llm_args": {"model": "m", "base_url": f"{url}/chat/completions", "num_concurrent": 2},
                "transcript": str(tmp_path / "t.jsonl"),
            },
            tasks=["pluralism_steerable_vk", "pluralism_steerable_opinionqa", TASK,
                   "pluralism_distributional_globalopinionqa"],
            task_manager=task_manager(data="sample", nli="embedded"), apply_chat_template=True,
            limit=2, bootstrap_iters=0,
        )  # fmt: skip
    assert results is not None
    rates = results["config"]["pluralism"]["rates"]
    assert all(rate["unread_replies"] == 0 for rate in rates.values())
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    for line in lines:
        n = len(line["options"])
        if readout == "verbalised":
            assert line["distribution"] == pytest.approx([1 / n] * n)
        elif line["task"] != TASK:  # (both orders there)
            first = 0.75 if readout == "sampled" else 1.0
            assert line["distribution"][:2] == pytest.approx([first, 1 - first])
    assert len({body["seed"] for body in bodies}) == (4 if readout == "sampled" else 1)
    assert {body["temperature"] for body in bodies} == {1.0 if readout == "sampled" else 0}
