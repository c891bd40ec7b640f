"""lm-eval's Weights & Biases and Trackio loggers take a run of ours; their numbers are those of the results.

Skipped where the packages are missing: neither is a dependency (``pip install wandb trackio``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate

from pluralism_eval.trackers import fit_wandb

TASKS = ("pluralism_overton_nli", "pluralism_steerable_vk", "pluralism_distributional_moralchoice")
DOCS = 3


@pytest.fixture
def finished(
    scripted: Any, task_manager: Callable[..., Any], tmp_path: Path
) -> Callable[[list[str]], tuple[dict[str, Any], dict[str, Any]]]:
    """(results, samples) of a run of these tasks, as lm-eval hands them to its loggers."""

    def run(tasks: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        results = simple_evaluate(
            model="vanilla",
            model_args={"llm": "scripted", "transcript": str(tmp_path / "t.jsonl")},
            tasks=tasks,
            task_manager=task_manager(data="sample", nli="embedded"),
            limit=DOCS,
            bootstrap_iters=0,
        )
        return results, results.pop("samples")

    return run


def numbers(results: dict[str, Any]) -> dict[str, float]:
    """``task/metric`` as the loggers name it → value; every number of the results."""
    return {
        f"{task}/{name.removesuffix(',none')}": value
        for task, scores in results["results"].items()
        for name, value in scores.items()
        if isinstance(value, (int, float))
    }


def same(a: Any, b: float) -> bool:
    return a == b or (math.isnan(b) and (a is None or str(a).lower() == "nan"))


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    yield module
    module.finish()


@pytest.mark.parametrize("tasks", [list(TASKS), ["pluralism"]], ids=["tasks", "group"])
def test_wandb_has_every_number_and_every_sample(
    finished: Any, wandb: Any, monkeypatch: pytest.MonkeyPatch, tasks: list[str]
) -> None:
    from lm_eval.loggers import WandbLogger

    results, samples = finished(tasks)
    fit_wandb(WandbLogger)
    fit_wandb(WandbLogger)  # twice is once
    logger = WandbLogger({"project": "x", "mode": "offline"}, {})
    logged: dict[str, Any] = {}
    inner = logger.run.log
    monkeypatch.setattr(
        logger.run, "log", lambda found, **k: (logged.update(found), inner(found, **k))
    )
    logger.post_init(results)
    logger.log_eval_result()
    logger.log_eval_samples(samples)
    wanted = numbers(results)
    assert len(wanted) > 50
    assert [name for name, value in wanted.items() if not same(logged[name], value)] == []
    for task in samples:
        frame = logged[f"{task}_eval_results"]
        assert len(frame) == DOCS
        wandb.Table(dataframe=frame)  # what run.log makes of it; refuses columns of several types
        assert not [name for name in frame.columns if name.endswith("_stderr")]
    vk = logged["pluralism_steerable_vk_eval_results"]
    pairs = [json.loads(text) for text in vk["acc"]]
    assert pairs == [list(sample["acc"]) for sample in samples["pluralism_steerable_vk"]]


def test_without_the_fit_the_samples_are_refused(finished: Any, wandb: Any) -> None:
    """The reason for the fit; once this fails, it can go."""
    from lm_eval.loggers import wandb_logger

    class Plain(wandb_logger.WandbLogger):
        pass

    if hasattr(Plain._generate_dataset, "__wrapped__"):  # fitted already in this process
        Plain._generate_dataset = Plain._generate_dataset.__wrapped__
    results, samples = finished([TASKS[1]])
    logger = Plain({"project": "x", "mode": "offline"}, {})
    logger.post_init(results)
    logger.log_eval_result()
    with pytest.raises(TypeError, match="incompatible types"):
        logger.log_eval_samples(samples)


def test_trackio_has_every_number_and_a_trace_a_doc(
    finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("trackio")
    import sqlite3

    from lm_eval.loggers import TrackioLogger
    from trackio import sqlite_storage

    monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    results, samples = finished(["pluralism"])
    logger = TrackioLogger({"project": "pluralism-test"})
    logger.post_init(results)
    logger.log_eval_result()
    logger.log_eval_samples(samples)
    logger.finish()
    with sqlite3.connect(tmp_path / "trackio" / "pluralism-test.db") as db:
        logged: dict[str, Any] = {}
        for (row,) in db.execute("select metrics from metrics"):
            logged |= json.loads(row)
        traces = db.execute("select messages from traces").fetchall()
    wanted = numbers(results)
    assert [name for name, value in wanted.items() if not same(logged[name], value)] == []
    assert len(traces) == DOCS * len(samples)
