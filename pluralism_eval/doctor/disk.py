"""Room, permission and locks where the run writes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from pluralism_eval.cache import cache_root
from pluralism_eval.doctor import hub
from pluralism_eval.doctor.findings import Blocked, Finding
from pluralism_eval.doctor.run import Run
from pluralism_eval.stores.places import file_system

_CHARACTERS = 5  # bytes a token
_PROMPT = 3000  # bytes of a prompt beside its messages
_BELOW = 400  # bytes of a path that a run adds to the folder that it is given
_SLOW = 0.1  # seconds a write
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "sshfs", "fuse.sshfs", "lustre", "gpfs", "ceph")
_WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=0.2, isolation_level=None)
try:
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO t VALUES (2)")
    db.execute("COMMIT")
    print("wrote")
except sqlite3.OperationalError as error:
    print("locked" if "locked" in str(error) else error)
"""


def places(run: Run) -> dict[str, Path]:
    """Folders that the run writes to, whether they exist or not; without wrong settings' own."""
    found = {"cache": cache_root()}
    output = run.asked.output_path
    if output is not None:
        found["output"] = output.parent if output.suffix == ".json" else output
    try:
        s = run.settings
    except Blocked:
        return found
    if s.messages and not list(Path(s.messages).glob("*.json")):  # exported files are only read
        found["messages"] = Path(s.messages)
    if s.transcript:
        found["transcript"] = Path(s.transcript).parent
    with contextlib.suppress(Blocked):
        if run.hub.needed:
            from huggingface_hub import constants

            found["Hub cache"] = Path(constants.HF_HUB_CACHE)
    return found


def existing(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    path = path.absolute()
    while not os.path.exists(path) and path != path.parent:  # Path.exists raises for long names
        path = path.parent
    return path


def space(run: Run) -> list[Finding]:
    """Can each place be written, and is there room for what the run will put there?"""
    check = "disk"
    found, free = [], []
    for name, path in places(run).items():
        base = existing(path)
        reason = too_long(_given(run, name) or path, base) or why_unwritable(base)
        if reason:
            do = {
                "cache": "PLURALISM_EVAL_CACHE=FOLDER",
                "output": "another --output_path",
                "Hub cache": "HF_HOME=FOLDER",
            }.get(name, f"another {name}=")
            found.append(Finding(check, "problem", f"{name}: {path} cannot be written ({reason})", do))  # fmt: skip
            continue
        room, need = shutil.disk_usage(base).free, estimate(run, name)
        shown = (
            f"{name}: {path}, {room / 1e9:.1f} GB free, about {max(need, 1e6) / 1e6:,.0f} MB needed"
        )
        if room < need:
            found.append(Finding(check, "problem", shown, "make room, or another folder"))
        elif room < 2 * need:
            found.append(Finding(check, "warning", f"{shown}: tight", "make room"))
        free.append(shown)
    return found or [Finding(check, "ok", "; ".join(free))]


def _given(run: Run, name: str) -> Path | None:
    """The file that was named, where the place is its folder."""
    if name == "output":
        return run.asked.output_path
    return Path(str(run.settings.transcript)) if name == "transcript" else None


def too_long(path: Path, base: Path) -> str:
    """Why the file system of ``base`` takes no such path, with a file of a run in it; empty if it does."""
    name, whole = _most(base, "PC_NAME_MAX", 255), _most(base, "PC_PATH_MAX", 4096)
    longest = max((len(os.fsencode(part)) for part in path.absolute().parts), default=0)
    if longest > name:
        return f"a name of {longest} bytes; {name} are allowed"
    length = len(os.fsencode(path.absolute()))
    return (
        f"a path of {length} bytes; {whole - _BELOW} are allowed" if length + _BELOW > whole else ""
    )


def _most(folder: Path, which: str, usual: int) -> int:
    try:
        return os.pathconf(folder, which)
    except (AttributeError, OSError, ValueError):  # no such question on this system
        return usual


def why_unwritable(folder: Path) -> str:
    """Empty if a file can be made there."""
    if not folder.is_dir():
        return "not a folder"
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-"):
            return ""
    except OSError as error:
        return str(error.strerror or error)


def estimate(run: Run, name: str) -> float:
    """Bytes that the run will put at a place: messages, then transcript and samples; models."""
    if name == "Hub cache":
        return float(sum(hub.look_up(r)[1] for r in run.hub.missing)) if run.hub.reachable else 0.0
    n = len(run.known_queries)
    if not n:
        return 0.0
    new = run.settings.message_max_tokens or run.preset.message_max_tokens
    k = len(run.communities)
    texts = float(n * k * new * _CHARACTERS)
    if name == "messages" or (name == "cache" and run.asked.output_path and not run.settings.messages):  # fmt: skip
        return texts
    answers = 2 * texts + n * max(1, k) * _PROMPT  # in the trace and in the prompts
    return texts + answers if name == "cache" and not run.asked.output_path else answers


# ---------------------------------------------------------------------- SQLite


def locking(run: Run) -> list[Finding]:
    """Two processes on one SQLite file, and the time of a write that has to be on disk."""
    found, seen = [], []
    for name, path in places(run).items():
        if name not in ("cache", "messages"):
            continue
        base = existing(path)
        if why_unwritable(base):
            raise Blocked("disk")
        kind = file_system(base)
        error, seconds = lock_error(base), write_seconds(base)
        shown = f"{name}: locks work, a write takes {1000 * seconds:.1f} ms" + (f" ({kind})" if kind in _NETWORK else "")  # fmt: skip
        move = "PLURALISM_EVAL_CACHE" if name == "cache" else "messages="
        if error:
            on = f" on {kind}" if kind else ""
            do = f"stores are kept as lines there; SQLite needs a local folder: {move}FOLDER".replace("CACHEF", "CACHE=F")  # fmt: skip
            found.append(Finding("sqlite", "warning", f"{name}: {path}{on}: {error}", do))
        elif seconds > _SLOW or kind in _NETWORK:
            do = f"a local folder is safer and faster: {move}".rstrip("=")
            found.append(Finding("sqlite", "warning", shown, do))
        seen.append(shown)
    return found or [Finding("sqlite", "ok", "; ".join(seen))]


def lock_error(folder: Path) -> str:
    """What goes wrong when two processes write one file; empty if nothing does."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as scratch:
        path = Path(scratch) / "lock.sqlite"
        try:
            with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as db:
                mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                db.execute("CREATE TABLE t (x)")
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO t VALUES (1)")
                during = _other_process(path)
                db.execute("COMMIT")
                after = _other_process(path)
                rows = db.execute("SELECT COUNT(*) FROM t").fetchone()[0]
        except (sqlite3.Error, OSError) as error:
            return f"SQLite fails there: {error}"
    if mode != "wal":
        return f"write-ahead logging is not possible (journal mode {mode})"
    if during != "locked":
        return f"a second process is not kept out by a lock ({during})"
    if after != "wrote" or rows != 2:
        return f"a second process cannot write after the first ({after})"
    return ""


def _other_process(path: Path) -> str:
    # locks of one process do not keep itself out, so the second connection is another's
    command = [sys.executable, "-I", "-S", "-c", _WRITER, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[-1] if done.stdout or done.stderr else "no answer"  # fmt: skip


def write_seconds(folder: Path) -> float:
    """Of the median of three writes of 4 kB that are flushed to the disk."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        for _ in range(3):
            started = time.perf_counter()
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - started)
    return sorted(times)[1]
