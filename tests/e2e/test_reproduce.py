"""Every table and figure on the embedded model; a plan beside what was used; a study that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval import study
from pluralism_eval.cli import main
from pluralism_eval.reproduce.targets import TARGETS

pytestmark = pytest.mark.model
SMALL = ["--limit", "1", "--set", "message_max_tokens=4", "--gen", "max_gen_toks=8"]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all targets: runs that they share are run once."""
    return tmp_path_factory.mktemp("reproduce")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_runs_on_the_embedded_model(
    name: str, output: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = ["--set", f"messages={output / 'store'}"]
    assert main(["reproduce", name, *SMALL, *store, "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    report = (output / name / "report.md").read_text()
    assert report in shown
    target = TARGETS[name]
    for row in target.rows:
        assert f"| {row.label} " in report
    if not target.extra:
        for score in target.scores:
            assert report.count(f"| {score.title} ") == len(target.rows)
    assert "other docs: data=sample" in report
    assert "used by the llm: " in report


def test_a_plan_is_within_a_tenth_of_what_is_then_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "reproduce", "table3", "--limit", "4", "--set", "message_max_tokens=8",
        "--set", f"messages={tmp_path / 'store'}", "--output", str(tmp_path),
    ]  # fmt: skip
    prices = ["--price-in", "1", "--price-out", "2", "--tflops", "100"]
    mine = ["--plan", "--pilot", "2", "--json"]
    assert main([*arguments, *mine, *prices]) == 0
    planned = json.loads(capsys.readouterr().out)
    # again: the pilot's runs are there, their times too
    assert main([*arguments, *mine]) == main([*arguments, *mine]) == 0
    once, again = (json.loads(part + "}") for part in capsys.readouterr().out.split("\n}\n")[:2])
    assert once["hours"] == pytest.approx(again["hours"])
    assert once["hours"] > 1e-4
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    used: dict[str, dict[str, int]] = {"llm": {}, "communities": {}}
    for file in (tmp_path / "runs").glob("*/*/results_*.json"):
        for kind, counts in json.loads(file.read_text())["config"]["pluralism"]["usage"].items():
            for key, value in counts.items():
                used[kind][key] = used[kind].get(key, 0) + value
    for kind in used:
        for key, value in used[kind].items():
            assert planned[kind][key] == pytest.approx(value, rel=0.1, abs=8), (kind, key)
    assert planned["communities"]["calls"] == used["communities"]["calls"] > 0
    assert f"used by the llm: {used['llm']['calls']:,} calls (planned " in shown
    llm = planned["llm"]
    money = (llm["prompt_tokens"] + 2 * llm["new_tokens"]) / 1e6
    assert planned["money"] == pytest.approx(money)
    flops = sum(row["flops"] for row in planned["rows"])
    assert planned["hours"] == pytest.approx(flops / (100e12 * 0.3) / 3600)


def test_an_interrupted_study_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate, seen = study.evaluate, []

    def interrupted(spec: study.RunSpec, *rest: Any) -> dict[str, Any]:
        seen.append(spec.method)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return evaluate(spec, *rest)

    monkeypatch.setattr(study, "evaluate", interrupted)
    arguments = ["reproduce", "table6", *SMALL, "--output", str(tmp_path)]
    assert main(arguments) == 130
    assert "what was finished is kept" in capsys.readouterr().err
    assert main(arguments) == 0
    assert seen == ["modular_pluralism", "vanilla", "vanilla", "prompting", "moe"]
    assert main(arguments) == 0
    assert len(seen) == 5


def test_pools_are_compared_on_the_same_docs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pools = [
        "embedded/news_left+embedded/news_right",
        "embedded/news_left+embedded/news_right+asia_persona",
    ]
    small = ["--limit", "2", "--set", "message_max_tokens=4", "--output", str(tmp_path)]
    assert main(["pools", *pools, "--tasks", "globalopinionqa,moralchoice", *small]) == 0
    shown = capsys.readouterr().out
    assert shown.count("changes from the first pool") == 2
    assert shown.count(f"| {pools[1]} | all ") == 2
    assert main(["pools", pools[0]]) == 2
    assert "at least two are compared" in capsys.readouterr().err
    assert main(["reproduce", "table1", "--set", "colour=3", "--output", str(tmp_path)]) == 2
    assert "unknown setting colour" in capsys.readouterr().err
    for flag in ("--limit", "--pilot"):
        assert main(["reproduce", "table1", flag, "0", "--output", str(tmp_path)]) == 2
        assert f"{flag} 0: at least 1" in capsys.readouterr().err
    assert main(["reproduce", "table99"]) == 2
    assert "Allowed: table1" in capsys.readouterr().err
