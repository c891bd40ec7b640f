"""Task records: a new task is one record, and every table, page and command that reads them knows it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from pluralism_eval import demo, plugin, scoring
from pluralism_eval.data.docs import build_docs
from pluralism_eval.data.sources import input_file, long_name, short_name
from pluralism_eval.leaderboard import board, recompute, samples
from pluralism_eval.metrics.metric import means
from pluralism_eval.report.breakdown import breakdowns, group_names
from pluralism_eval.report.table import overview
from pluralism_eval.results import Run
from pluralism_eval.scoring import scores_of
from pluralism_eval.tasks import TASKS, by_name, items, task_names
from pluralism_eval.tasks.task import Column, Group, Task

NAME = "pluralism_steerable_toy"
METRICS = tuple(means("likes", higher=True))


def toy_doc(item: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    return items.opinionqa(
        {**item, "gold_distribution": [1.0, 0.0], "attribute": "SEX_Female"}, common
    )


def toy_score(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    return {"likes": float(results[0][0] > results[1][0])}


def likes(sample: Mapping[str, Any]) -> float:
    return float(sample["likes"])


TOY = Task(
    NAME,
    short="toy",
    title="Steerable toy",
    head="Toy likes↑",
    input="steerable_test_toy",
    blob="0" * 40,
    mode="steerable",
    build=toy_doc,
    score=toy_score,
    metrics=lambda: METRICS,
    columns=(
        Column(NAME, "Toy: likes", "likes", lambda samples: {"uniform": 0.5}, likes),
        Column(NAME, "Toy: likes again", "likes", headline=False),
    ),
    logged=("likes",),
    correct=lambda sample: likes(sample) == 1,
    correct_means="it is liked",
    groups=(Group("sort", lambda sample: str(sample["doc"]["group"])),),
)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setitem(TASKS, "toy", TOY)
    return TOY


def answered(n: int = 4) -> list[dict[str, Any]]:
    """lm-eval's samples of the toy task: of every four docs three are liked."""
    given = [{"id": i, "question": f"Do you like {i}?", "options": ["Yes", "No"]} for i in range(n)]
    docs = build_docs("toy", given, {"preset": "paper"}, "toy")
    rows = []
    for i, doc in enumerate(docs):
        answer = [(-0.1, True), (-3.0, False)] if i % 4 else [(-3.0, False), (-0.1, True)]
        rows.append({"doc_id": i, "doc": doc, "resps": [[a] for a in answer]})
        rows[-1] |= TASKS["toy"].score(doc, answer)
    return rows


def run_of_toy() -> Run:
    return Run("vanilla", Path("results.json"), {}, {NAME: {}}, {NAME: answered()}, [])


def test_a_new_record_is_in_the_table_the_board_and_the_demo(toy: Task) -> None:
    run = run_of_toy()
    table = overview({"vanilla": run.samples})
    assert [column.title for column in table.columns] == ["Toy: likes"]
    cells = {row.label: row.cells[0] for row in table.rows}
    assert cells["uniform"].value == 0.5  # type: ignore[union-attr]
    assert cells["vanilla"].value == 0.75  # type: ignore[union-attr]
    titles = [(c.title, c.higher_is_better) for c in board.all_columns() if c.task == NAME]
    assert titles == [("Toy: likes", True), ("Toy: likes again", True)]
    head, line = demo.scores({"vanilla": run})
    assert head.split()[-2:] == ["Toy", "likes↑"]
    assert line.split()[-1] == "0.750"


def test_a_new_record_is_known_to_names_scores_groups_and_submissions(
    toy: Task, tmp_path: Path
) -> None:
    assert (long_name("toy"), short_name(NAME), task_names()[-1]) == (NAME, "toy", NAME)
    (tmp_path / "steerable_test_toy.json").write_text("[]")
    assert input_file("toy", str(tmp_path)).name == "steerable_test_toy.json"
    run = run_of_toy()
    assert [(s.name, s.value) for s in scores_of(run)[NAME]] == [("likes", 0.75)]
    assert group_names(NAME, run.samples[NAME][0]) == ["SEX"]
    assert [(g.name, g.docs) for g in breakdowns(NAME, run.samples[NAME])["sort"]] == [("SEX", 4)]
    assert by_name(NAME).correct(run.samples[NAME][1])
    kept = [samples.kept("toy", row) for row in run.samples[NAME]]
    again, problems = recompute.rescored("toy", kept)
    assert not problems
    assert [row["likes"] for row in again] == [0.0, 1.0, 1.0, 1.0]


def test_a_file_of_answers_to_a_new_task_is_scored(toy: Task, tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    rows = [
        {"id": i, "question": f"{i}?", "options": ["Yes", "No"], "pred_distribution": [0.7, 0.3]}
        for i in range(3)
    ]
    path.write_text(json.dumps(rows))
    (score,) = scoring.summaries(scoring.score_file(path, "toy"))
    assert (score.name, score.value, score.n) == ("likes", 1.0, 3)


def test_every_record_is_a_task_of_the_group_and_its_columns_are_scores() -> None:
    group = yaml.safe_load((plugin.task_folder() / "pluralism.yaml").read_text(encoding="utf-8"))
    assert list(task_names()) == group["task"] == list(plugin.AUTOMATIC)
    for short, task in TASKS.items():
        assert short == task.short
        scores = {metric.name: metric for metric in task.metrics()}
        assert {column.metric for column in task.columns} <= scores.keys()
        assert set(task.logged) <= scores.keys()
        assert all(column.task == task.name for column in task.columns)
        arrow = "↑" if task.columns[0].of.higher_is_better else "↓"
        assert task.head.endswith(arrow)
        assert task.columns[0].number is not None, "the headline score is a mean over docs"
