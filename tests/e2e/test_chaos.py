"""``python -m tests.faults``: all kinds of faults in small; what it must see; nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.faults.__main__ import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
COMMAND = [sys.executable, "-m", "tests.faults"]

# A store that forgets: replies that were paid and stored are gone in the next process, and a message that
# is written there differs. Neither is an error that anyone would see.
FORGETS = """
import os
from pathlib import Path
from pluralism_eval import cache
first, put = {}, cache.Store.put
def forgets(self, values):
    marks = Path("cache") / "begun"
    if not marks.exists():
        marks.parent.mkdir(exist_ok=True)
        marks.write_text(str(os.getpid()))
    rows = dict(values)
    if marks.read_text() != str(os.getpid()):
        rows = {k: v | {"text": v["text"] + "!"} if isinstance(v, dict) and "text" in v else v for k, v in rows.items()}
    if self.path.name == "api.sqlite":
        return
    put(self, rows)
cache.Store.put = forgets
"""


def chaos(folder: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """(exit status, what --json said)."""
    done = subprocess.run(
        [*COMMAND, "--folder", str(folder), "--json", *arguments],
        env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_every_kind_in_small(tmp_path: Path) -> None:
    status, said = chaos(tmp_path, "--faults", "10", "--commands", "messages")
    kinds = {kind["kind"]: kind for kind in said["kinds"]}
    assert [note for kind in kinds.values() for note in kind["notes"]] == []
    assert status == 0
    assert list(kinds) == ["kills", "damage", "servers", "writers", "disk"]
    assert kinds["kills"]["faults"] == 6
    assert all(kind["faults"] and kind["commands"] for kind in kinds.values())
    faults = sum(kind["faults"] for kind in kinds.values())
    assert said["line"] == f"{faults} faults, 0 lost, 0 silently wrong"
    assert list(tmp_path.iterdir()) == []


def test_what_is_lost_and_what_is_wrong_is_seen(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(FORGETS)
    folder = tmp_path / "there"
    folder.mkdir()
    status, said = chaos(
        folder, "--only", "kills", "--faults", "4", "--commands", "messages",
        PYTHONPATH=os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]),
    )  # fmt: skip
    (kills,) = said["kinds"]
    assert status == 1
    assert re.fullmatch(r"4 faults, [1-9]\d* lost, [1-9]\d* silently wrong", said["line"])
    assert any("silently wrong: messages: messages." in note for note in kills["notes"])
    assert len(list(folder.iterdir())) == 1  # kept, to be looked at


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    mark = f"chaos-test-{os.getpid()}"
    process = subprocess.Popen(
        [*COMMAND, "--folder", str(tmp_path), "--only", "kills", "--commands", "messages"],
        env={**os.environ, "MARK": mark}, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("*/finished/*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    assert list(tmp_path.iterdir()) == []
    if Path("/proc/self/environ").exists():
        assert marked(mark) == []


def marked(mark: str) -> list[str]:
    """Processes that have ``mark`` in their environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in entry.read_bytes():
                found.append(entry.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "kills,floods"], "floods unknown. Allowed: kills, damage, servers"),
        (["--faults", "0"], "--faults 0: at least 1"),
        (["--commands", "dance"], "--commands dance: unknown. Allowed: messages, run vanilla"),
        (["--folder", "nowhere/at/all"], "cannot be used"),
    ],
)
def test_bad_arguments_are_one_error(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["--folder", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err
