"""What was changed after a run is found wherever the run is read."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.registry import model_registry

from pluralism_eval import plugin, recorded
from pluralism_eval.errors import PluralismError
from pluralism_eval.results import read_run
from pluralism_eval.scoring import score_file
from pluralism_eval.study import RunSpec, StudyLLM, evaluate, execute, save
from tests.conftest import ScriptedLM

TASK = "pluralism_distributional_moralchoice"
SPEC = RunSpec(
    "vanilla", "vanilla", StudyLLM("scripted", "scripted"), (TASK,), metadata={"data": "sample"}, limit=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``run``, as ``lm_eval`` leaves one, and ``study``, one of a study."""
    plugin.register_models()
    if "scripted" not in model_registry:
        model_registry.register("scripted", target=ScriptedLM)
    folder = tmp_path_factory.mktemp("made")
    save(evaluate(SPEC, folder / "first"), folder / "first", "vanilla")
    (folder / "first").rename(
        folder / "run"
    )  # the place of the transcript that it recorded is no more
    execute(SPEC, folder / "studies")
    SPEC.folder(folder / "studies").rename(folder / "study")
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "study", tmp_path / "study"))


def file(folder: Path, pattern: str) -> Path:
    (found,) = folder.rglob(pattern)
    return found


def edit(path: Path, change: Callable[[list[Any]], Any]) -> None:
    """``change``s the rows of a JSON Lines file, in place or by what it returns."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = change(rows) or rows
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def put(*place: Any) -> Callable[[list[Any]], None]:
    """Sets the last of ``place`` where the others lead to."""

    def change(rows: list[Any]) -> None:
        *path, last, value = place
        at: Any = rows
        for key in path:
            at = at[key]
        assert at[last] != value
        at[last] = value

    return change


def swap(rows: list[Any]) -> None:
    """Two docs with each other's score: every mean stays."""
    rows[0]["jsd"], rows[1]["jsd"] = rows[1]["jsd"], rows[0]["jsd"]


CHANGES: dict[str, Callable[[list[Any]], Any]] = {
    "a score": put(0, "jsd", 0.0),
    "two scores swapped": swap,
    "a response": put(1, "resps", 0, 0, 0, "-0.5"),
    "what was scored": put(1, "filtered_resps", 0, 0, "-0.5"),
    "a gold": put(0, "doc", "gold", [0.25, 0.75]),
    "a prompt": put(0, "arguments", "gen_args_0", "arg_0", "Which?"),
    "a target": put(0, "target", "7"),
    "a doc less": lambda rows: rows[1:],
    "a doc twice": lambda rows: [*rows, rows[0]],
    "another number": put(2, "doc_id", 9),
    "another field": lambda rows: [rows[0] | {"more": 1}, *rows[1:]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_samples_edited_after_the_run_are_one_clear_error(
    change: Callable[[list[Any]], Any], run: Path
) -> None:
    path = file(run, "samples_*")
    read_run(run)
    edit(path, change)
    with pytest.raises(PluralismError) as error:
        read_run(run)
    assert str(path) in str(error.value)
    assert "was changed after the run" in str(error.value)
    assert "run it again" in str(error.value)
    with pytest.raises(PluralismError, match="was changed after the run"):
        score_file(path, TASK)


def test_what_changes_nothing_is_no_error(run: Path) -> None:
    edit(file(run, "samples_*"), lambda rows: rows[::-1])  # another order, other spaces
    assert len(read_run(run).samples_of(TASK)) == 3
    moved = run.rename(run.with_name("moved"))
    assert len(read_run(moved).transcript_of(TASK)) == 3
    for path in moved.rglob("transcript_*"):
        path.unlink()
    assert read_run(moved).transcript == []


COMMANDS = {
    "report": ["RUN"],
    "influence": ["RUN"],
    "faithfulness": ["RUN"],
    "submit": ["RUN"],
    "export": ["RUN", "--to", "hf"],
    "judge": ["RUN", "--baseline", "RUN", "--judge", "embedded"],
}


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (c, w)
        for c in COMMANDS
        for w in ("samples_*", "transcript_*")
        if (c, w) != ("judge", "transcript_*")
    ],
)
def test_every_command_that_reads_a_run_says_so(
    command: str, what: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = file(run, what)
    edit(path, put(0, "doc_id", 2))
    parser = argparse.ArgumentParser()
    import_module(f"pluralism_eval.commands.{command}").add(parser.add_subparsers())
    words = [str(run) if word == "RUN" else word for word in COMMANDS[command]]
    arguments = parser.parse_args([command, *words])
    with pytest.raises(PluralismError, match=f"{path.name} was changed after the run"):
        arguments.action(arguments)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("what", ["samples_*", "transcript_*", "results_*"])
def test_files_of_a_study_are_checked_by_what_it_recorded(what: str, study: Path) -> None:
    read_run(study)
    path = file(study, what)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("0.", "0.0", 1), encoding="utf-8")
    with pytest.raises(PluralismError, match=f"{path.name} was changed after the run"):
        read_run(study)


def test_a_study_whose_record_was_changed_is_said(study: Path) -> None:
    mark = study / "study.json"
    found = json.loads(mark.read_text())
    found["seconds"] = 0.5
    found["files"] = {}
    mark.write_text(json.dumps(found))
    with pytest.raises(PluralismError, match=r"study\.json was changed after the run"):
        read_run(study)


@pytest.mark.parametrize("name", ["a gold", "a target", "a doc less", "a doc twice"])
def test_runs_without_our_hashes_are_checked_by_those_of_lm_eval(name: str, run: Path) -> None:
    results = file(run, "results_*")
    raw = json.loads(results.read_text())
    del raw[recorded.SAMPLES]
    results.write_text(json.dumps(raw))
    read_run(run)
    edit(file(run, "samples_*"), CHANGES[name])
    with pytest.raises(PluralismError, match="was changed after the run"):
        read_run(run)
