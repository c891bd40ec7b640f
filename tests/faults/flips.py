"""Bytes flipped at seeded random places of every cache: one at a time, and twenty."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from pluralism_eval.cache import FORM_VARIABLE, Store
from tests.faults.stores import CACHES, Tally, fresh, rows_of, serve, workshop
from tests.faults.truncation import NAME, killed


def flip(content: bytes, chance: random.Random) -> bytes:
    """One byte made another."""
    at = chance.randrange(len(content))
    return content[:at] + bytes([content[at] ^ chance.randrange(1, 256)]) + content[at + 1 :]


def whole(cache: str, folder: Path) -> tuple[Path, bytes]:
    """(the file of a store of ``cache`` that holds its rows, its content)."""
    fresh(folder, {})
    table = CACHES[cache][0]
    store = Store(folder / f"{cache}.sqlite", table)
    store.put(rows_of(cache))
    folders = list(folder.glob("*.lines"))
    file = max(folders[0].glob("*-*.rows")) if folders else store.path
    return file, file.read_bytes()


def flipped(cache: str, n: int, folder: Path, at_once: int = 1) -> Tally:
    """``n`` times a copy of the store with ``at_once`` bytes flipped."""
    tally, chance = Tally(), random.Random(f"{cache} {at_once}")
    file, content = whole(cache, folder / "whole")
    for i in range(n):
        damaged = content
        for _ in range(at_once):
            damaged = flip(damaged, chance)
        place = folder / f"flipped-{i}"  # its own: a folder of lines is opened once a process
        target = place / file.relative_to(folder / "whole")
        target.parent.mkdir(parents=True)
        target.write_bytes(damaged)
        serve(tally, place / f"{cache}.sqlite", CACHES[cache][0], rows_of(cache))
        fresh(place, {})
    return tally


def with_log(n: int, folder: Path) -> Tally:
    """``n`` flips in the file and the log of a store whose last writer was killed."""
    tally, chance = Tally(), random.Random("log")
    files = killed(folder / "whole")
    for i in range(n):
        name = NAME + ("-wal" if i % 2 else "")
        fresh(folder / "flipped", files | {name: flip(files[name], chance)})
        serve(tally, folder / "flipped" / NAME, CACHES["messages"][0], rows_of("messages"))
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=1000, help="a cache (default: 1000)")
    parser.add_argument("--lines", action="store_true", help="stores as lines instead of SQLite")
    arguments = parser.parse_args()
    if arguments.lines:
        import os

        os.environ[FORM_VARIABLE] = "lines"
    clean = True
    with workshop() as folder:
        for cache in CACHES:
            for n, at_once in ((arguments.flips, 1), (max(1, arguments.flips // 20), 20)):
                tally = flipped(cache, n, folder / f"{cache}-{at_once}", at_once)
                print(tally.line(f"{cache}, {at_once} flipped at a time"), flush=True)
                clean = clean and tally.clean
        if not arguments.lines:
            tally = with_log(arguments.flips, folder / "log")
            print(tally.line("messages beside a log, 1 flipped at a time"), flush=True)
            clean = clean and tally.clean
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
