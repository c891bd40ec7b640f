"""The store of messages: kills, two writers, a full disk. What was acknowledged stays as it was."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pluralism_eval.cache import Store

N, KILLS = 10_000, 20

# Each writer has its own wording, so that a text that changed hands is seen. A line of the log is
# written after the store has acknowledged the text, and carries what the store then held.
WRITER = """
import json, os, random, sys, time
from pathlib import Path
from pluralism_eval.cache import Store
folder, writer = Path(sys.argv[1]), sys.argv[2]
store = Store(folder / "messages.sqlite", "messages")
log = os.open(folder / f"acknowledged-{writer}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
keys = [f"key{i}" for i in range(int(sys.argv[3]))]
chunks = [keys[i : i + 20] for i in range(0, len(keys), 20)]
random.Random(writer).shuffle(chunks)
for chunk in chunks:
    wanted = [key for key in chunk if key not in store.get(chunk)]
    if wanted:
        store.put({key: {"text": f"{writer} about {key} " + "x" * 300} for key in wanted})
        held = store.get(wanted)
        lines = "".join(json.dumps([key, held[key]["text"]]) + "\\n" for key in wanted)
        os.write(log, lines.encode())
        time.sleep(0.04)
"""


def test_two_killed_writers_lose_nothing_and_write_nothing_twice(tmp_path: Path) -> None:
    chance = random.Random(0)

    def start(writer: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), writer, str(N)])

    running = {"a": start("a"), "b": start("b")}
    for n in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.3))
        writer = "ab"[n % 2]
        assert running[writer].poll() is None, "it was ready before the kills were over"
        running[writer].send_signal(signal.SIGKILL)
        running[writer].wait()
        running[writer] = start(writer)
    assert [process.wait(timeout=120) for process in running.values()] == [0, 0]

    store = Store(tmp_path / "messages.sqlite", "messages")
    keys = [f"key{i}" for i in range(N)]
    stored = {key: value["text"] for key, value in store.get(keys).items()}
    assert len(store) == len(stored) == N
    for key, text in stored.items():
        assert text.split()[0] in ("a", "b")
        assert text == f"{text[0]} about {key} " + "x" * 300
    lines = [
        json.loads(line)
        for writer in "ab"
        for line in (tmp_path / f"acknowledged-{writer}").read_text().splitlines()
        if line.endswith("]")
    ]
    assert len(lines) > N / 2
    assert all(stored[key] == text for key, text in lines)
    with sqlite3.connect(store.path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


FULL = """
import resource, sys
from pathlib import Path
from pluralism_eval.cache import Store
from pluralism_eval.errors import PluralismError
store = Store(Path(sys.argv[1]), "messages")
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
n = 0
try:
    while n < 10_000:
        store.put({f"key{n}": {"text": "x" * 1000}})
        n += 1
except PluralismError as error:
    print(n, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the limit is POSIX's")
def test_a_full_disk_is_one_error_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "messages.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True
    )
    acknowledged, _, error = done.stdout.partition(" ")
    assert "cannot be written" in error
    assert "Nothing in it is lost; make room" in error
    n = int(acknowledged)
    assert n > 10
    store = Store(path, "messages")
    assert len(store.get([f"key{i}" for i in range(n)])) == n
    store.put({"after": {"text": "there is room again"}})
    assert store.get(["after"]) == {"after": {"text": "there is room again"}}
