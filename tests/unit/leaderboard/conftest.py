"""One good submission, copies of it, and several together."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pluralism_eval.leaderboard import submit
from pluralism_eval.leaderboard.verify import Verdict, verify_each
from pluralism_eval.results import read_run
from tests.unit.leaderboard.runs import FAST, make_run, with_value


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One good submission of two tasks."""
    folder = tmp_path_factory.mktemp("made")
    made = submit.make(read_run(make_run(folder / "run")), by="us")
    return submit.write(made, folder / "submissions")


@pytest.fixture
def good(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be tampered with."""
    return Path(shutil.copytree(made, tmp_path / "submissions" / made.name))


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    """Two runs of five docs, one of seven, a complete one, one without samples, a rejected one."""
    folder = tmp_path_factory.mktemp("several")
    out = folder / "submissions"
    for name, tasks, n, seed in (
        ("one", FAST, 5, 1), ("two", FAST, 5, 2), ("seven", ["moralchoice"], 7, 3), ("all", ["moralchoice"], 40, 4),
        ("bad", ["moralchoice"], 5, 5),
    ):  # fmt: skip
        made = submit.make(read_run(make_run(folder / name, tasks, n, seed)), name=name)
        written = submit.write(made, out)
        if name == "bad":
            with_value("low", "0.5")(written)
    hidden = submit.make(
        read_run(make_run(folder / "x", ["moralchoice"], 5, 6)), with_samples=False
    )
    submit.write(hidden, out)
    return list(verify_each(submit.folders(out)))
