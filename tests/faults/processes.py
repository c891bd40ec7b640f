"""Eight processes on one store, all with the same keys: with locks, without, and without a shared memory.

Every process has a wording of its own, so that a value that changed hands is seen.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from pluralism_eval.cache import Store
from tests.faults.stores import workshop

SOURCE = Path(__file__).with_name("locks.c")
KINDS = ("write-ahead log", "rollback journal", "locks fail", "locks lie")
_ROOT = Path(__file__).parents[2]
_BATCH = 10


def work(folder: Path, name: str, n: int, remote: bool) -> None:
    """One process: what it held of each key after writing it goes to ``folder/name.json``."""
    if remote:
        from pluralism_eval.stores import sqlite

        setattr(sqlite, "is_remote", lambda folder: True)  # noqa: B010 - the module only imports it
    store = Store(folder / "messages.sqlite", "messages")
    keys = [f"key{i}" for i in range(n)]
    random.Random(name).shuffle(keys)
    held: dict[str, str] = {}
    for start in range(0, n, _BATCH):
        part = keys[start : start + _BATCH]
        missing = [key for key in part if key not in store.get(part)]
        store.put({key: f"{name} about {key} " + "x" * 300 for key in missing})
        held |= store.get(part)
    (folder / f"{name}.json").write_text(json.dumps(held), encoding="utf-8")


def preloaded(kind: str, folder: Path) -> dict[str, str]:
    """Environment in which locks are as ``kind`` says."""
    if kind not in ("locks fail", "locks lie"):
        return dict(os.environ)
    library = folder / "locks.so"
    if not library.exists():
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", library, SOURCE, "-ldl"],
            check=True,
            capture_output=True,
        )
    return {**os.environ, "LD_PRELOAD": str(library), "LOCKS": kind.removeprefix("locks ")}


def run(kind: str, folder: Path, processes: int = 8, n: int = 1000) -> Counter[str]:
    """errors, keys lost, keys of which two processes held different values, damaged values."""
    folder.mkdir(parents=True)
    env = preloaded(kind, folder.parent)
    options = ["--worker", str(folder), "--keys", str(n)]
    options += ["--remote"] if kind == "rollback journal" else []
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.processes", *options, "--name", f"process{i}"],
            env=env, cwd=_ROOT, stderr=subprocess.PIPE, text=True,
        )
        for i in range(processes)
    ]  # fmt: skip
    said = [process.communicate(timeout=600)[1] for process in started]
    found: Counter[str] = Counter(errors=sum(p.returncode != 0 for p in started))
    if found["errors"]:
        print(next(text for p, text in zip(started, said, strict=True) if p.returncode)[-2000:])
        return found
    form = "lines" if kind.startswith("locks") else "sqlite"
    assert (folder / "messages.sqlite.lines").exists() == (form == "lines")
    assert ("is kept as lines" in said[0]) == (form == "lines")
    final = Store(folder / "messages.sqlite", "messages").items()
    found["lost"] = n - len(final)
    for file in folder.glob("process*.json"):
        held = json.loads(file.read_text(encoding="utf-8"))
        found["lost"] += n - len(held)
        found["changed"] += sum(final.get(key) != value for key, value in held.items())
        found["damaged"] += sum(f" about {k} " not in v for k, v in held.items())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    parser.add_argument("--remote", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.worker, arguments.name, arguments.keys, arguments.remote)
        return 0
    clean = True
    with workshop() as folder:
        for kind in KINDS:
            if kind.startswith("locks") and not shutil.which("cc"):
                print(f"{kind}: not tried, there is no C compiler")
                continue
            found = run(kind, folder / kind, arguments.processes, arguments.keys)
            clean = clean and not found.total()
            print(
                f"{kind}: {arguments.processes} processes, {arguments.keys:,} keys each: {found['errors']} errors, "
                f"{found['lost']} lost, {found['changed']} with two values, {found['damaged']} damaged", flush=True,
            )  # fmt: skip
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
