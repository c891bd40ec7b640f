"""Planned calls against those of real runs, method by method; the command itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate

from pluralism_eval.cli import main
from pluralism_eval.communities.pool import make_pool
from pluralism_eval.messages import task_queries
from pluralism_eval.metrics import coverage
from pluralism_eval.planning.plan import make_plan
from pluralism_eval.planning.rows import LLM, MESSAGES, Plan
from pluralism_eval.plugin import AUTOMATIC, METHODS
from pluralism_eval.prompts import Prompts
from pluralism_eval.settings import parse
from pluralism_eval.study import RunSpec, StudyLLM
from tests.openai_server import Scripted, Server

SAMPLE = Path(__file__).parents[2] / "pluralism_eval" / "data" / "sample"
INPUTS = {
    "pluralism_overton_nli": "overton_test_valuekaleidoscope",
    "pluralism_steerable_vk": "steerable_test_valuekaleidoscope",
    "pluralism_steerable_opinionqa": "steerable_test_opinionqa",
    "pluralism_distributional_moralchoice": "distributional_test_moralchoice",
    "pluralism_distributional_globalopinionqa": "distributional_test_globalopinionqa",
}
LIMIT = 5


@pytest.fixture
def messages(exported: Callable[..., str]) -> str:
    """Exported messages about the sample's docs."""
    for name in INPUTS.values():
        folder = exported(name, json.loads((SAMPLE / f"{name}.json").read_text())[:LIMIT])
    return folder


@pytest.fixture
def used(
    scripted: Any,
    messages: str,
    task_manager: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[dict[str, int], Plan]]:
    """(what a real run used, its plan)."""
    entailed = (1.0, 0.0, 0.0)
    monkeypatch.setattr(coverage, "score_pairs", lambda _, pairs: dict.fromkeys(pairs, entailed))
    monkeypatch.setattr(coverage, "check_accuracy", lambda _: (0.5, 66))

    def go(method: str, task: str, chat: bool = False, **settings: Any) -> Any:
        own = {"communities": "embedded", "messages": messages, **settings}
        metadata = {"data": "sample", "nli": "embedded"}
        shared = {k: v for k, v in settings.items() if k in ("preset", "orders")}
        results = simple_evaluate(
            model=method,
            model_args={"llm": "scripted", "transcript": str(tmp_path / "t.jsonl"), **own},
            tasks=[task],
            limit=LIMIT,
            task_manager=task_manager(**metadata, **shared),
            apply_chat_template=chat,
            bootstrap_iters=0,
            predict_only=True,
        )
        llm = StudyLLM("scripted", "scripted", chat=chat)
        spec = RunSpec(method, method, llm, (task,), own, metadata, limit=LIMIT)
        return results["config"]["pluralism"]["usage"]["llm"], make_plan([spec])

    return go


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", AUTOMATIC)
def test_calls_are_those_of_a_real_run(used: Callable[..., Any], method: str, task: str) -> None:
    real, plan = used(method, task)
    assert plan.total(LLM).calls == plan.total(LLM, most=True).calls == real["calls"] > 0
    assert plan.total(MESSAGES).calls == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "settings",
    [
        {"readout": "sampled", "readout_samples": 3},
        {"readout": "verbalised"},
        {"readout": "generated"},
        {"orders": 4},
        {"templates": 2},
        {"preset": "paper+moralchoice_orders=1+vk_readout=generated"},
        {"chat": True},
    ],
    ids=lambda settings: "+".join(settings),
)
def test_calls_of_readouts_and_variants(
    used: Callable[..., Any], method: str, settings: dict[str, Any]
) -> None:
    if settings.get("templates") and method == "vanilla":
        pytest.skip("vanilla has one wording")
    for task in ("pluralism_steerable_vk", "pluralism_distributional_globalopinionqa"):
        real, plan = used(method, task, **settings)
        assert plan.total(LLM).calls == real["calls"], task


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("readout", ["options", "sampled", "verbalised"])
def test_requests_to_a_server(
    messages: str, task_manager: Callable[..., Any], tmp_path: Path, api: str, readout: str
) -> None:
    """The plan knows which replies are stored: after the run there is nothing left to ask."""
    metadata, task = {"data": "sample", "nli": "embedded"}, "pluralism_steerable_vk"
    own = {
        "communities": "embedded",
        "messages": messages,
        "readout": readout,
        "readout_samples": 3,
    }
    with Server(Scripted("1")) as server:
        args = {"model": "model", "base_url": server.url, "api": api}
        spec = RunSpec("x", "modular_pluralism", StudyLLM("m", "openai", args), (task,), own, metadata, limit=LIMIT)  # fmt: skip
        plan = make_plan([spec])
        results = simple_evaluate(
            model="modular_pluralism",
            model_args={**spec.model_args(), "transcript": str(tmp_path / "t.jsonl")},
            tasks=[task],
            limit=LIMIT,
            task_manager=task_manager(**metadata),
            bootstrap_iters=0,
        )
        again = make_plan([spec])
    real = results["config"]["pluralism"]["usage"]["llm"]
    assert plan.total(LLM).calls == real["calls"] > 0
    assert again.total(LLM).calls == 0
    assert not plan.of(LLM)[0].local


def test_harness_readout_asks_an_option_at_a_time(used: Callable[..., Any]) -> None:
    real, plan = used("vanilla", "pluralism_steerable_vk", readout="harness")
    assert plan.total(LLM).calls == real["calls"] == 3 * LIMIT


def test_what_a_run_would_refuse_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["plan", "--metadata", "data=sample", "--limit", "1"]
    chat = ["--model_args", "llm=local-chat-completions,llm_args=model=x;base_url=http://localhost:1"]  # fmt: skip
    for arguments, words in (
        ([*common, *chat], "gives no log-probabilities"),
        ([*common, "--model", "magic"], "--model magic: unknown. Allowed: vanilla"),
        (
            [*common, "--tasks", "pluralism_nothing"],
            "pluralism_nothing: no such task. Ours: pluralism",
        ),
        ([*common, "--tasks", "pluralism_overton_judge"], "nothing to plan"),
        ([*common, "--model_args", "communities=nobody"], "neither a named pool"),
        ([*common, "--gpu", "abacus"], "'abacus' is not in the table"),
        ([*common, "--utilisation", "1.5"], "--utilisation 1.5: above 0, at most 1"),
        ([*common, "--price-in", "1"], "belong together"),
        ([*common, "--batch-discount", "1"], "from 0, below 1"),
        ([*common, "--bandwidth", "5"], "give --tflops too"),
        ([*common, "--parameters", "big"], "write 7e9 or 7b"),
        ([*common, "--scale", "huge"], "neither paper nor a number"),
        ([*common, "--limit", "0"], "--limit 0: at least 1"),
        ([*common, "--pilot", "2", "--message-tokens", "3"], "--pilot measures lengths"),
        ([*common, "--model_args", "colour=3"], "unknown setting colour"),
        ([*common, "--model_args", "{nonsense"], "expected key=value"),
    ):
        assert main(arguments) == 2, arguments
        assert words in capsys.readouterr().err


def test_stored_messages_are_counted_exactly(tmp_path: Path) -> None:
    settings = {"communities": "embedded", "messages": str(tmp_path), "message_max_tokens": 40}
    metadata = {"data": "sample", "nli": "embedded"}
    tasks = ("pluralism_distributional_moralchoice", "pluralism_steerable_opinionqa")
    pool = make_pool(parse("modular_pluralism", settings), Prompts())
    queries = task_queries(tasks, parse("modular_pluralism", settings), metadata, LIMIT)
    pool.import_messages((q, i, "I say so.") for q in queries[:4] for i in (0, 2))
    llm = StudyLLM("embedded", "embedded")
    spec = RunSpec("ours", "modular_pluralism", llm, tasks, settings, metadata, limit=LIMIT)
    rows = make_plan([spec]).of(MESSAGES)
    missing = pool.missing((q, i) for q in queries for i in range(6))
    assert sum(row.work.usage.calls for row in rows) == len(missing)
    assert sum(row.stored for row in rows) == 8
    assert sum(row.needed.usage.calls for row in rows) == len(missing) + 8
    # moe writes one of a query's messages, by an unknown community: two of six are there for four
    moe = RunSpec("moe", "moe", llm, tasks, settings, metadata, limit=LIMIT)
    rows = make_plan([moe]).of(MESSAGES)
    distinct = len({pool.prompt(q) for q in queries})
    assert sum(row.needed.usage.calls for row in rows) == distinct
    assert sum(row.most.usage.calls for row in rows) == distinct
    assert sum(row.work.usage.calls for row in rows) == pytest.approx(distinct - 4 * 2 / 6, abs=1)
    both = make_plan([spec, moe]).of(MESSAGES)
    assert sum(row.work.usage.calls for row in both) == len(missing)


def test_one_pool_for_many_llms_is_written_once() -> None:
    tasks, metadata = ("pluralism_steerable_vk",), {"data": "sample"}
    settings = {"communities": "perspective"}
    specs = [
        RunSpec("ours", "modular_pluralism", StudyLLM(f"m/x-{n}b", "hf", {"pretrained": f"m/x-{n}b"}), tasks, settings, metadata, limit=3)
        for n in (7, 13)
    ]  # fmt: skip
    plan = make_plan(specs)
    assert plan.total(MESSAGES).calls == 18
    assert [row.model.parameters for row in plan.of(LLM)] == [7e9, 13e9]
    assert any("its adapters are not here" in note for note in plan.notes)


def test_the_command_prints_everything(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = [
        "plan", "--model", "modular_pluralism,moe", "--tasks", "pluralism", "--metadata", "data=sample", "nli=vitaminc",
        "--limit", "2", "--model_args", "pretrained=meta-llama/Llama-3.1-405B-Instruct,communities=perspective",
        "--gpu", "h100,l40s", "--price-in", "2", "--price-out", "10", "--batch-discount", "0.5",
    ]  # fmt: skip
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for words in (
        "Messages of perspective: 72 needed, 0 stored, 72 to write",
        "modular_pluralism, distributional_moralchoice",
        "needs 16 in tensor parallel",
        "Money if an API answered in the LLM's place: ",
        "50% off for batches",
        "10.4%",
        "1.7%",
        "mean of the 12 that the paper prints",
        "three characters a token (no tokenizer here)",
        "entailment pairs",
    ):
        assert words in shown, words
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["messages"]["calls"] == 72
    assert found["at_most"]["messages"]["new_tokens"] == 72 * 512
    assert found["overhead"]["meta-llama/Llama-3.1-405B-Instruct"]["nominal"] == pytest.approx(42 / 405)  # fmt: skip
    llm = found["llm"]
    paid = (llm["prompt_tokens"] * 2 + llm["new_tokens"] * 10) / 2e6
    assert found["money"]["expected"] == pytest.approx(paid)
    assert {row["kind"] for row in found["rows"]} == {"llm", "messages", "entailment"}
    assert found["memory"]["meta-llama/Llama-3.1-405B-Instruct"]["devices"] == {"h100": 16, "l40s": 32}  # fmt: skip


def test_scales(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    common = ["plan", "--metadata", "data=sample", "nli=embedded", "--limit", "2", "--json"]
    assert main([*common, "--scale", "paper", "--model", "vanilla,modular_pluralism"]) == 0
    paper = json.loads(capsys.readouterr().out)
    assert paper["messages"]["calls"] == 6 * (77_480 + 1_367)  # MoralChoice is asked in both orders
    assert len({row["llm"] for row in paper["rows"] if row["kind"] == "llm"}) == 12
    assert "scaled on paper to the paper's 77,480 docs" in paper["notes"][0]
    study = tmp_path / "study.yaml"
    study.write_text(
        "llms: [{name: a, llm: hf, llm_args: {pretrained: x/a-7b}}, {name: b, llm: hf, llm_args: {pretrained: x/b-13b}}]\n"
        "settings: {communities: perspective}\ndata: sample\nlimit: 2"
    )
    given = ["plan", "--study", str(study), "--json", "--metadata", "nli=embedded"]
    assert main([*given, "--scale", "1000", "--tasks", "pluralism_steerable_vk"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = [row for row in found["rows"] if row["kind"] == "llm"]
    assert {(row["llm"], row["method"]) for row in rows} == {(a, m) for a in "ab" for m in METHODS}
    assert {row["docs"] for row in rows} == {1000}
    assert found["messages"]["calls"] == 6000


@pytest.mark.model
@pytest.mark.parametrize(("selection", "calls"), [("generated", 6), ("likelihood", 9)])
def test_the_embedded_model_against_its_plan(
    selection: str, calls: int, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """No pilot: calls equal, prompts close. A pilot: its lengths instead of assumptions."""
    task = "pluralism_steerable_opinionqa"
    settings = {
        "message_max_tokens": 6,
        "messages": str(tmp_path / "store"),
        "selection": selection,
    }
    arguments = [
        "plan", "--tasks", task, "--metadata", "data=sample", "--limit", "3", "--json", "--output", str(tmp_path / "pilot"),
        "--model_args", ",".join(f"{k}={v}" for k, v in settings.items()), "--tflops", "0.1", "--bandwidth", "10",
    ]  # fmt: skip
    assert main(arguments) == 0
    planned = json.loads(capsys.readouterr().out)
    assert main([*arguments, "--pilot", "1"]) == 0
    piloted = json.loads(capsys.readouterr().out)
    told = "length of a reply: the pilot's" in piloted["notes"]
    assert told == (selection == "generated")
    assert piloted["messages"]["calls"] == planned["messages"]["calls"] - 6 == 12
    from pluralism_eval.study import execute

    spec = RunSpec(
        "ours", "modular_pluralism", StudyLLM("embedded", "embedded"), (task,), settings, {"data": "sample"}, limit=3
    )  # fmt: skip
    real = execute(spec, tmp_path / "runs").config["pluralism"]["usage"]
    assert planned["llm"]["calls"] == piloted["llm"]["calls"] == real["llm"]["calls"] == calls
    assert piloted["messages"]["calls"] == real["communities"]["calls"]
    for plan in (planned, piloted):
        assert plan["llm"]["prompt_tokens"] == pytest.approx(real["llm"]["prompt_tokens"], rel=0.1)
    assert planned["time"][0]["device"] == "yours"
    assert planned["time"][0]["total"] > 0
