"""A store of 50 rows cut off at every byte: its file alone, its file beside a log, and the log."""

from __future__ import annotations

import argparse
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from pluralism_eval.cache import Store
from tests.faults.stores import CACHES, Tally, fresh, rows_of, serve, workshop

NAME = "messages.sqlite"


def closed(folder: Path) -> dict[str, bytes]:
    """A store that nobody has open: one file."""
    Store(fresh(folder, {}) / NAME, CACHES["messages"][0]).put(rows_of("messages"))
    return {NAME: (folder / NAME).read_bytes()}


def killed(folder: Path) -> dict[str, bytes]:
    """A store whose last writer was killed: half of the rows are only in the log."""
    store = Store(fresh(folder, {}) / NAME, CACHES["messages"][0])
    rows = list(rows_of("messages").items())
    store.put(rows[:25])
    with closing(sqlite3.connect(store.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute(
            "SELECT COUNT(*) FROM messages"
        ).fetchone()  # keeps the log from being emptied
        store.put(rows[25:])
        names = [NAME, NAME + "-wal", NAME + "-shm"]
        return {name: (folder / name).read_bytes() for name in names}


def cut(files: dict[str, bytes], name: str, folder: Path, every: int = 1, first: int = 0) -> Tally:
    """``name`` ended at each ``every``-th byte, beside the other ``files`` whole."""
    tally = Tally()
    for end in range(first, len(files[name]), every):
        fresh(folder, files | {name: files[name][:end]})
        serve(tally, folder / NAME, CACHES["messages"][0], rows_of("messages"))
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="bytes from one cut to the next")
    every = parser.parse_args().every
    clean = True
    with workshop() as folder:
        for made, name in ((closed, NAME), (killed, NAME), (killed, NAME + "-wal")):
            files = made(folder / "whole")
            tally = cut(files, name, folder / "cut", every)
            what = f"{name} of {len(files[name]):,} bytes" + (" beside a log" if len(files) > 1 and name == NAME else "")  # fmt: skip
            print(tally.line(what), flush=True)
            clean = clean and tally.clean
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
