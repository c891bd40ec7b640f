"""pluralism_overton_judge through lm-eval itself, with scripted runs, baselines and judges."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.loggers import EvaluationTracker

from pluralism_eval import plugin
from pluralism_eval.cli import main
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.pairwise import Report

TASK = plugin.JUDGED
N = 12


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    items = [
        {
            "id": i, "situation": f"Situation {i}", "vrd": ["Care"], "explanation": ["Caring matters."],
            "input": f"Please comment on the following situation: Situation {i}.", "output": None,
        }
        for i in range(N)
    ]  # fmt: skip
    (folder / "overton_test_valuekaleidoscope.json").write_text(json.dumps(items))
    return folder


def is_judged(prompt: str) -> bool:
    return "Please evaluate which of the two responses" in prompt


def reply(prompt: str) -> str:
    """The LLM writes a better response where it is prompted for pluralism, except in situation 3; the
    judge reads that quality."""
    if not is_judged(prompt):
        asked = (
            "Make sure your response reflects diverse" in prompt and "Situation 3." not in prompt
        )
        return "A response with quality=2 and words" if asked else "A response, quality=1"
    parts = prompt.partition("Response #1:")[2].split("Response #2:")
    first, second = (int((re.findall(r"quality=(\d)", part) or [0])[0]) for part in parts)
    return "tie" if first == second else "1" if first > second else "2"


@pytest.fixture
def run(
    data: Path,
    scripted: Any,
    task_manager: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., dict[str, Any]]:
    monkeypatch.setenv("PLURALISM_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scripted, "reply", staticmethod(reply))

    def go(
        method: str, task: str = TASK, metadata: dict[str, Any] | None = None, **more: Any
    ) -> dict[str, Any]:
        settings = more.pop("settings", {})
        arguments = {"llm": "scripted", "transcript": str(tmp_path / "t.jsonl"), **settings}
        told = {"data": str(data), "nli": "llm:scripted", "judge": "scripted", "audits": 3}
        results: dict[str, Any] = simple_evaluate(
            model=method,
            model_args=arguments,
            tasks=[task],
            task_manager=task_manager(**{**arguments, **told, **(metadata or {})}),
            bootstrap_iters=10,
            **more,
        )
        return results

    return go


def saved(results: dict[str, Any], folder: Path) -> str:
    """What ``--output_path --log_samples`` leaves."""
    results = deepcopy(results)
    samples = results.pop("samples")
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.model_name_sanitized = "m"
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, rows in samples.items():
        tracker.save_results_samples(task_name=task, samples=rows)
    return str(folder)


def scores(results: dict[str, Any]) -> dict[str, float]:
    return {
        name.removesuffix(",judge"): value
        for name, value in results["results"][TASK].items()
        if name.endswith(",judge")
    }


def test_vanilla_against_vanilla_is_all_ties(run: Callable[..., Any]) -> None:
    found = scores(run("vanilla"))
    assert (found["win"], found["tie"], found["lose"], found["unparsed"]) == (0, 1, 0, 0)
    assert (found["disagreement"], found["audit_self_tie"], found["audit_empty_win"]) == (0, 1, 0)
    assert found["words"] == found["words_baseline"] == 3
    assert math.isnan(found["position_first"])  # no verdict names one


def test_prompting_against_vanilla_on_the_spot(run: Callable[..., Any], scripted: Any) -> None:
    results = run("prompting")
    found = scores(results)
    assert (found["win"], found["tie"], found["lose"]) == ((N - 1) / N, 1 / N, 0)
    assert found["net_win"] == found["win"]
    assert found["half_tie_win"] == (N - 0.5) / N
    assert (found["position_first"], found["position_p"]) == (0.5, 1)
    assert found["sign_test_p"] == pytest.approx(2 * 0.5 ** (N - 1))
    assert found["length_correlation"] == pytest.approx(1)  # the one tie is the one of equal length
    assert found["win_stderr"] > 0
    assert found["position_p_stderr"] == "N/A"
    sample = results["samples"][TASK][0]
    (row,) = sample["filtered_resps"]
    assert row["baseline"] == "A response, quality=1"
    assert row["baseline_name"] == "vanilla of scripted()"
    assert row["verdicts"] == row["replies"]
    assert json.loads(json.dumps(row))["verdicts"] == ["1", "2"]
    asked = [p for _, p in scripted.seen if not is_judged(p)]
    assert len(asked) == 2 * N  # the run's own, and vanilla's: nothing else
    scripted.seen.clear()
    run("prompting")
    assert len(scripted.seen) == N  # baseline and verdicts are known


def test_the_baseline_is_decoded_and_templated_as_the_run_is(
    run: Callable[..., Any], scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    original = scripted.generate_until

    def spying(self: Any, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        sent.extend(r.args for r in requests if not is_judged(r.args[0]))
        return list(original(self, requests, disable_tqdm))

    monkeypatch.setattr(scripted, "generate_until", spying)
    run("prompting", gen_kwargs={"max_gen_toks": 33}, apply_chat_template=True, limit=2)
    own, baseline = sent[:2], sent[2:]
    assert len(baseline) == 2
    for (prompt, kwargs), (plain, same) in zip(own, baseline, strict=True):
        assert kwargs == same == {"until": [], "max_gen_toks": 33, "do_sample": False}
        assert plain.startswith("<user>Please comment on the following situation")
        assert prompt.endswith(plain.removeprefix("<user>"))
    sent.clear()
    run("prompting", metadata={"preset": "reference"}, settings={"preset": "reference"}, limit=2)
    assert [kwargs["temperature"] for _, kwargs in sent] == [0.1] * 4


@pytest.mark.parametrize("task", ["pluralism_overton_nli", TASK])
def test_prompting_against_a_saved_run(
    run: Callable[..., Any], scripted: Any, tmp_path: Path, task: str
) -> None:
    folder = saved(run("vanilla", task), tmp_path / "vanilla")
    scripted.seen.clear()
    results = run("prompting", metadata={"baseline": folder})
    found = scores(results)
    assert (found["win"], found["tie"], found["lose"]) == ((N - 1) / N, 1 / N, 0)
    assert results["samples"][TASK][0]["filtered_resps"][0]["baseline_name"] == "vanilla"
    assert sum(kind == "generate" and not is_judged(p) for kind, p in scripted.seen) == N


def test_pairs_are_a_seeded_sample(run: Callable[..., Any]) -> None:
    def ids(**metadata: Any) -> list[str]:
        samples = run("vanilla", metadata=metadata)["samples"][TASK]
        return [s["doc"]["id"] for s in sorted(samples, key=lambda s: s["doc_id"])]

    five = ids(pairs=5)
    assert len(five) == 5
    assert ids(pairs="7")[:5] == five
    assert ids(pairs=5, pairs_seed=7) != five
    assert ids(pairs=5, seed=99) == five  # the model's seed, which reaches tasks as well


def test_what_is_not_in_the_baseline_is_one_error_before_anything(
    run: Callable[..., Any], scripted: Any, tmp_path: Path
) -> None:
    folder = saved(run("vanilla", metadata={"pairs": 4}), tmp_path / "few")
    scripted.seen.clear()
    with pytest.raises(
        PluralismError, match=rf"no response to {N - 4} of the {N} situations .*pairs=N"
    ):
        run("prompting", metadata={"baseline": folder})
    assert scripted.seen == []
    assert scores(run("prompting", metadata={"baseline": folder, "pairs": 4}))["unparsed"] == 0


def test_all_problems_of_the_metadata_are_one_error(
    task_manager: Callable[..., Any], data: Path
) -> None:
    manager = task_manager(
        data=str(data), judge="nobody", pairs=0, audits="x", base_url="http://localhost"
    )
    with pytest.raises(PluralismError, match=r"4 problem\(s\)") as caught:
        manager.load([TASK])
    for said in ("'nobody' is no LLM", "pairs=0", "audits='x'", "baseline=RUN_FOLDER"):
        assert said in str(caught.value)


def test_keys_of_judge_or_llm_are_refused_before_anything_is_asked(
    run: Callable[..., Any], scripted: Any
) -> None:
    for given in (
        {"settings": {"llm_args": "api_key=hunter2"}},
        {"metadata": {"judge": "scripted:api_key=hunter2"}},
    ):
        with pytest.raises(PluralismError, match="keys do not belong in arguments") as caught:
            run("prompting", **given)
        assert "hunter" not in str(caught.value)
    assert scripted.seen == []


def test_unparsed_verdicts_are_counted_and_never_scored(
    run: Callable[..., Any], scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sometimes(prompt: str) -> str:
        lost = is_judged(prompt) and re.search(r"Situation: Situation [0-3]\n", prompt)
        return "Both are fine" if lost else reply(prompt)

    monkeypatch.setattr(scripted, "reply", staticmethod(sometimes))
    found = scores(run("prompting"))
    assert found["unparsed"] == 4 / N
    assert (found["win"], found["tie"]) == (1, 0)


def test_a_biased_judge_is_found_out(
    run: Callable[..., Any], scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = staticmethod(lambda prompt: "1" if is_judged(prompt) else reply(prompt))
    monkeypatch.setattr(scripted, "reply", always)
    found = scores(run("prompting"))
    assert (found["tie"], found["disagreement"], found["position_first"]) == (1, 1, 1)
    assert found["position_p"] == pytest.approx(2 * 0.5 ** (2 * N))
    assert found["position_of_disagreements_p"] == pytest.approx(2 * 0.5**N)
    assert found["audit_self_tie"] == 0


def test_the_command_on_two_saved_runs_says_what_the_task_said(
    run: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], scripted: Any
) -> None:
    vanilla = saved(run("vanilla"), tmp_path / "vanilla")
    results = run("prompting")
    prompting = saved(results, tmp_path / "prompting")
    scripted.seen.clear()
    capsys.readouterr()
    arguments = ["judge", prompting, "--baseline", vanilla, "--judge", "scripted", "--audits", "3"]
    assert main([*arguments, "--json"]) == 0
    assert scripted.seen == []  # the task's verdicts are kept
    found = json.loads(capsys.readouterr().out)
    assert found["report"].keys() == Report.__dataclass_fields__.keys()
    task = scores(results)
    for name in ("win", "tie", "lose", "net_win", "half_tie_win", "disagreement"):
        assert found["report"][name]["value"] == pytest.approx(task[name])
    assert found["audits"]["empty_win"] == task["audit_empty_win"]
    assert main(["judge", vanilla, "--baseline", prompting, "--judge", "scripted"]) == 0
    out = capsys.readouterr().out
    assert "vanilla against prompting (baseline), judged by scripted()" in out
    assert re.search(r"\| lose +\| 0\.917 ", out)


def test_the_task_is_found_by_both_globs_and_not_in_the_group(
    task_manager: Callable[..., Any],
) -> None:
    manager = task_manager(data="sample", nli="embedded", judge="embedded")
    assert TASK in manager.match_tasks(["pluralism_*"])
    assert TASK in manager.load(["pluralism_eval"])["tasks"]
    assert set(manager.load(["pluralism"])["tasks"]) == set(plugin.AUTOMATIC)


@pytest.mark.model
def test_the_embedded_model_judges_itself(task_manager: Callable[..., Any], tmp_path: Path) -> None:
    """The real decoding: vanilla regenerated is vanilla to the letter, so that no pair is decided."""
    told = {"data": "sample", "judge": "embedded", "audits": 0, "pairs": 2}
    settings = {"llm": "embedded", "transcript": str(tmp_path / "t.jsonl")}
    results = simple_evaluate(
        model="vanilla", model_args=settings, tasks=[TASK], task_manager=task_manager(**told),
        gen_kwargs={"max_gen_toks": 8}, bootstrap_iters=0,
    )  # fmt: skip
    for sample in results["samples"][TASK]:
        (row,) = sample["filtered_resps"]
        assert row["response"] == row["baseline"] == sample["resps"][0][0]
        assert row["replies"][0] == row["replies"][1]
    found = scores(results)
    assert found["tie"] == 1 or found["unparsed"] > 0
    assert not found["win"] > 0
