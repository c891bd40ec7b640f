"""Readouts of one server compared by one command, against a distribution that is known."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.cli import main
from pluralism_eval.metrics.distance import js_distance
from tests.openai_server import Ask, Offer, Scripted, Server

TASK = "pluralism_distributional_moralchoice"
P = {" A": 0.4, "A": 0.2, " B": 0.15, "B": 0.05, " the": 0.1, " I": 0.1}
READ = [0.75, 0.25]


def stated(ask: Ask, i: int) -> str | None:
    """Shares where they are asked for; a first token by the distribution else."""
    return '{"A": 75, "B": 25}' if ask.schema else None


def spec(server: Server) -> str:
    return f"openai:model=model;base_url={server.url};api=completions"


def distribution(context: str) -> dict[str, float]:
    return P if not context.endswith(tuple(P)) else {"": 1.0}


def test_all_readouts_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    offer = Offer(most_logprobs=5)
    given = [
        "readouts",
        "echo",
        "top_logprobs",
        "options",
        "sampled",
        "--tasks",
        "moralchoice",
        "--data",
        "sample",
    ]
    with Server(Scripted(distribution=distribution), offer) as server:
        more = [
            "--limit",
            "6",
            "--set",
            "readout_samples=50",
            "--set",
            "orders=1",
            "--output",
            str(tmp_path),
        ]
        assert main([*given, "--llm", spec(server), *more]) == 0
        printed = capsys.readouterr().out
        before = len(server.ledger.requests)
        assert main([*given, "--llm", spec(server), *more, "--json"]) == 0
        assert len(server.ledger.requests) == before  # finished runs are not run again
        found = json.loads(capsys.readouterr().out)[TASK]
    assert "| options      | echo " in printed
    assert found["options"]["readout_used"] == "echo"
    golds = [[1.0, 0.0], [0.5, 0.5]]
    near = [js_distance(READ, gold) for gold in golds]
    for name in ("echo", "options"):
        row = found[name]
        assert row["option_mass"] == pytest.approx(0.8, abs=1e-6)
        assert row["lower"] == row["score"] == row["upper"]
        assert min(near) - 1e-6 <= row["score"] <= max(near) + 1e-6
    top = found["top_logprobs"]
    assert top["lower"] <= found["echo"]["score"] <= top["upper"]
    assert top["hidden_probability"] > 0  # five of six tokens are shown
    sampled = found["sampled"]
    assert sampled["sampling_error"] > 0
    assert abs(sampled["score"] - found["echo"]["score"]) < 0.1
    assert sampled["total_variation"] < 0.2
    assert sampled["unparsed"] == 0


def test_stated_shares_are_bound_by_a_schema_where_the_server_takes_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    given = ["readouts", "top_logprobs", "verbalised", "--tasks", "moralchoice", "--data", "sample", "--limit", "2", "--json"]  # fmt: skip
    for schema, read in (("given", True), ("refused", False)):
        backend = Scripted(rule=lambda ask, i: stated(ask, i) or "I cannot say")
        with Server(backend, Offer(json_schema=schema)) as server:  # type: ignore[arg-type]
            llm = f"openai:model=model;base_url={server.url}"
            assert main([*given, "--llm", llm, "--output", str(tmp_path / schema)]) == 0
            row = json.loads(capsys.readouterr().out)[TASK]["verbalised"]
            asked = [
                r.body for r in server.ledger.requests if r.body and "response_format" in r.body
            ]
        assert (row["unparsed"] == 0) == read
        if read:
            form = asked[-1]["response_format"]["json_schema"]
            assert form["strict"] is True
            assert form["schema"]["required"] == ["A", "B"]
        else:
            assert len(asked) == 1  # the probe alone


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["echo"], "two or more of options, echo"),
        (["echo", "lettres"], "two or more of"),
        (["echo", "sampled", "--tasks", "overton"], "has no options to read"),
        (["echo", "sampled", "--method", "magic"], "one of vanilla"),
        (["options", "sampled", "--set", "readout=echo"], "and not readout"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(["readouts", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_local_completions_of_lm_eval_works_too(tmp_path: Path, llm_folder: str) -> None:
    """lm-eval's own client of the same server reads what ours reads."""
    from pluralism_eval.llm.load import load_llm
    from pluralism_eval.settings import parse
    from tests.embedded_backend import Embedded

    embedded = load_llm(parse("vanilla", {}), batch_size=1)
    prompts, letters = ["Q: A or B?\nA. yes\nB. no\nAnswer:"], [["A", "B"]]
    with Server(Embedded(embedded), Offer(models=("smol",))) as server:
        args: dict[str, Any] = {
            "model": "smol", "base_url": f"{server.url}/completions", "tokenizer": llm_folder, "num_concurrent": 1,
        }  # fmt: skip
        theirs = load_llm(parse("vanilla", {"llm": "local-completions", "llm_args": args}))
        own = {"model": "smol", "base_url": server.url, "api": "completions"}
        ours = load_llm(parse("vanilla", {"llm": "openai", "llm_args": own}))
        found = [m.option_logprobs(prompts, letters)[0].logprobs for m in (embedded, ours, theirs)]
    assert found[1] == pytest.approx(found[0], abs=1e-3)
    assert found[2] == pytest.approx(found[0], abs=1e-3)
    assert all(math.isfinite(value) for value in found[0])


@pytest.fixture(scope="module")
def llm_folder() -> str:
    from pluralism_eval.llm.embedded import locate

    return locate()


def test_a_whole_run_by_batches_is_the_run_by_single_requests(tmp_path: Path) -> None:
    """Two rounds (the choice, then the answer), each a batch."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from pluralism_eval import plugin

    plugin.register_models()
    manager = TaskManager(
        include_path=str(plugin.task_folder()), include_defaults=False, metadata={"data": "sample"}
    )
    pool = tmp_path / "pool.yaml"
    found = []
    with Server(Scripted(distribution=distribution)) as server:
        entry = {
            "engine": "prompted",
            "base_url": server.url,
            "model": "model",
            "persona": "p",
            "description": "d",
        }
        pool.write_text(json.dumps([{"name": name, **entry} for name in ("nurses", "pilots")]))
        for more in ({}, {"batch": True, "batch_poll": 0.01}):
            args = {"model": "model", "base_url": server.url, **more}
            given = {
                "llm": "openai", "llm_args": args, "communities": str(pool), "messages": str(tmp_path / "m"),
                "message_max_tokens": 4, "transcript": str(tmp_path / "t.jsonl"),
            }  # fmt: skip
            if more:  # what single requests got is not to be read back
                (tmp_path / "replies" / "api.sqlite").unlink()
            run = simple_evaluate(
                "moe",
                model_args=given,
                tasks=[TASK],
                task_manager=manager,
                limit=3,
                bootstrap_iters=0,
            )
            found.append(run["results"][TASK])
        batches = server.ledger.paths()["POST /v1/batches"]
        counts = run["config"]["pluralism"]["api"]["llm"]
    assert json.dumps(found[0]) == json.dumps(found[1])
    assert batches == counts["batches"] == 2
