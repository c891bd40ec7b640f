"""A process of a launch that is killed, stopped or loses its launcher does not leave the others waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT

RANK = """
import ast, os, sys, time
from pathlib import Path
from pluralism_eval import heartbeat
heartbeat.BEAT, heartbeat.SILENT, heartbeat.GRACE = 0.1, 1.5, 0.2
rank, size, folder, what = int(sys.argv[1]), 3, Path(sys.argv[2]), sys.argv[3]
steps = []

def exchange(value):  # as ranks.py does through torch, which takes seconds to import
    steps.append(len(steps))
    own = folder / f"{len(steps)}-{rank}"
    own.with_suffix(".part").write_text(repr(value))
    own.with_suffix(".part").rename(own)
    all_of_them = [folder / f"{len(steps)}-{r}" for r in range(size)]
    while not all(path.exists() for path in all_of_them):
        time.sleep(0.01)
    return [ast.literal_eval(path.read_text()) for path in all_of_them]

heartbeat.start(rank, size, exchange)
(folder / str(rank)).write_text(str(os.getpid()))
if what == "ends" and rank != 1:
    time.sleep(3)  # as the first process does, which writes results when the others have ended
if what == "fails" and rank == 1:
    raise ValueError("a mishap")
if what != "ends":
    time.sleep(100)
"""
LAUNCHER = f"""
import subprocess, sys
for rank in "012":
    subprocess.Popen([sys.executable, "-c", {RANK!r}, rank, *sys.argv[1:]])
import time; time.sleep(200)
"""


def pids(folder: Path) -> list[int]:
    until = time.monotonic() + 100
    while not all(
        (folder / str(rank)).is_file() and (folder / str(rank)).read_text() for rank in range(3)
    ):
        assert time.monotonic() < until
        time.sleep(0.1)
    return [int((folder / str(rank)).read_text()) for rank in range(3)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("what", ["killed", "stopped", "fails", "launcher", "ends"])
def test_who_is_lost_takes_the_others_along_and_who_ends_does_not(
    what: str, tmp_path: Path
) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TORCHELASTIC_RUN_ID": "x",
    }
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(tmp_path), what], env=environment, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    ranks = pids(tmp_path)
    try:
        if what in ("killed", "stopped"):
            os.kill(ranks[1], signal.SIGKILL if what == "killed" else signal.SIGSTOP)
        if what == "launcher":
            launcher.kill()
        until = time.monotonic() + 15
        others = [pid for pid in ranks if what != "stopped" or pid != ranks[1]]
        while any(map(alive, others)) and time.monotonic() < until:
            time.sleep(0.1)
        assert not [pid for pid in others if alive(pid)]
    finally:
        for pid in ranks:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        launcher.kill()
    said = launcher.communicate()[1]
    expected = {"stopped": "process 1 of this launch was not heard of", "launcher": "the launcher was killed", "ends": ""}  # fmt: skip
    assert expected.get(what, "process 1 of this launch was killed or failed") in said
    assert ("ends as well" in said) == (what != "ends")
