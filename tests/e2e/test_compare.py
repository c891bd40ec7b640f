"""``compare`` and ``report``: killed twice and resumed, a study file, and the same numbers in every file."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pluralism_eval.cli import main
from pluralism_eval.results import read_run, runs_below
from pluralism_eval.scoring import scores_of

pytestmark = pytest.mark.model
TABLES = {"overview", "table1", "table10"}


def arguments(folder: Path) -> list[str]:
    return [
        "compare", "--methods", "vanilla,modular_pluralism", "--tasks", "vk,moralchoice", "--limit", "1",
        "--set", "message_max_tokens=6", "--set", "message_batch=6", "--set", f"messages={folder / 'store'}",
        "--output", str(folder / "out"),
    ]  # fmt: skip


def messages_in(folder: Path) -> int:
    """Messages on disk; 0 while there is no store yet."""
    found = 0
    for file in folder.glob("*.sqlite"):
        try:
            with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=5) as store:
                found += store.execute("select count(*) from messages").fetchone()[0]
        except sqlite3.OperationalError:
            continue
    return found


def killed_when(folder: Path, ready: Callable[[], bool]) -> None:
    """The command of :func:`arguments`, ended with SIGKILL as soon as ``ready``."""
    given = [sys.executable, "-m", "pluralism_eval.cli", *arguments(folder)]
    with (folder / "said.txt").open("a") as said:
        process = subprocess.Popen(
            given, stdout=said, stderr=said, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
        end = time.monotonic() + 240
        while not ready() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL, (folder / "said.txt").read_text()


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was killed amid the messages of its first run and after that run, and finished."""
    folder = tmp_path_factory.mktemp("killed")
    killed_when(folder, lambda: messages_in(folder / "store") >= 1)
    assert not list(folder.glob("out/runs/*/study.json"))
    # six communities: a vk doc, and another in two orders
    assert 0 < messages_in(folder / "store") < 18
    killed_when(folder, lambda: any(folder.glob("out/runs/*/study.json")))
    assert len(list(folder.glob("out/runs/*/study.json"))) == 1
    assert main(arguments(folder)) == 0
    return folder / "out"


def test_killed_twice_and_resumed_is_as_uninterrupted(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "[1/2] embedded: modular_pluralism\n" in shown
    assert (tmp_path / "out" / "report.md").read_text() in shown
    for name in TABLES:
        for suffix in ("csv", "md", "tex"):
            file = Path("tables") / f"{name}.{suffix}"
            assert (compared / file).read_bytes() == (tmp_path / "out" / file).read_bytes()
    ours, whole = (
        next(
            run
            for run in map(read_run, runs_below(out / "runs"))
            if run.name == "modular_pluralism"
        )
        for out in (compared, tmp_path / "out")
    )
    for lines in (ours.transcript, whole.transcript):
        for line in lines:
            for message in line["messages"]:
                del message["reused"]
    assert ours.transcript == whole.transcript
    assert not list((tmp_path / "out").rglob("answers*"))
    before = {file: file.stat().st_mtime_ns for file in compared.rglob("results_*.json")}
    assert main(arguments(compared.parent)) == 0
    assert "finished before" in capsys.readouterr().out
    assert before == {file: file.stat().st_mtime_ns for file in compared.rglob("results_*.json")}


def test_every_file_has_the_numbers_of_the_runs(compared: Path) -> None:
    rows = list(csv.DictReader((compared / "tables" / "overview.csv").open()))
    known = {
        (run.name, task, s.name): (s.value, s.low, s.high)
        for run in map(read_run, runs_below(compared / "runs"))
        for task, found in scores_of(run).items()
        for s in found
    }
    systems = [row for row in rows if row["kind"] == "system"]
    assert len(systems) == 6
    for row in systems:
        value, low, high = known[row["row"], row["task"], row["metric"]]
        assert float(row["value"]) == value
        assert [row["low"], row["high"]] == ["" if end != end else repr(end) for end in (low, high)]
        raw = next(
            run for run in map(read_run, runs_below(compared / "runs")) if run.name == row["row"]
        )
        assert raw.results[row["task"]][f"{row['metric']},none"] == pytest.approx(value, abs=1e-12)
    assert (compared / "report.html").stat().st_size > 20_000
    for figure in ("figure4", "overview"):
        assert (compared / "figures" / f"{figure}.svg").read_text().startswith("<?xml")
        assert (compared / "figures" / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
    assert "options" in (compared / "log.txt").read_text() or (compared / "log.txt").is_file()


def test_a_report_of_any_runs(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(file.parent) for file in runs_below(compared / "runs")]
    assert main(["report", *runs, "--output", str(tmp_path / "r"), "--title", "<b>Mine</b>"]) == 0
    shown = capsys.readouterr().out
    for name in TABLES:
        own, theirs = (folder / "tables" / f"{name}.csv" for folder in (tmp_path / "r", compared))
        assert own.read_bytes() == theirs.read_bytes()
    assert "| modular_pluralism | distributional_moralchoice " in shown
    page = (tmp_path / "r" / "report.html").read_text()
    assert "&lt;b&gt;Mine&lt;/b&gt;" in page
    assert "<b>Mine</b>" not in page
    assert main(["report", runs[0], runs[0], "--output", str(tmp_path / "s")]) == 2
    assert main(["report", str(tmp_path / "nothing"), "--output", str(tmp_path / "s")]) == 2
    said = capsys.readouterr().err
    assert "a run is given twice" in said
    assert "holds no run" in said


def test_a_study_file_of_llms_alignments_and_pools(
    scripted: Any,
    exported: Callable[[str, list[dict[str, Any]]], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "distributional_test_moralchoice"
    sample = Path(__file__).parents[2] / "pluralism_eval" / "data" / "sample" / f"{name}.json"
    items = json.loads(sample.read_text())[:6]
    data = tmp_path / "data"
    data.mkdir()
    (data / f"{name}.json").write_text(json.dumps(items))
    study = tmp_path / "study.yaml"
    study.write_text(
        "llms: [{name: llama2-7b/aligned, llm: scripted}, {name: other, llm: scripted}]\n"
        f"methods: [vanilla, modular_pluralism]\ntasks: [moralchoice]\ndata: {data}\n"
        "pools: [embedded, embedded-social_right]\n"
        f"settings: {{messages: {exported(name, items)}}}\n"
    )
    given = ["compare", "--study", str(study), "--output", str(tmp_path / "out")]
    assert main(given) == 0
    shown = capsys.readouterr().out
    assert "[6/6] other: vanilla" in shown
    rows = list(csv.DictReader((tmp_path / "out" / "tables" / "table10.csv").open()))
    assert {(row["section"], row["row"]) for row in rows if row["kind"] == "system"} == {
        (llm, method)
        for llm in ("llama2-7b/aligned", "other")
        for method in (
            "vanilla",
            "modular_pluralism (embedded)",
            "modular_pluralism (embedded-social_right)",
        )
    }
    printed = [row for row in rows if row["kind"] == "paper"]
    assert {row["section"] for row in printed} == {"llama2-7b/aligned"}
    assert len(printed) == 12
    study.write_text(study.read_text() + "tasks2: [x]\n")
    assert main(given) == 2
    assert main(["compare", "--tasks", "vkk", "--output", str(tmp_path / "o")]) == 2
    assert main(["reproduce", "table3", "--study", str(study)]) == 2
    assert "unknown key 'tasks2'" in capsys.readouterr().err
