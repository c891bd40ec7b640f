"""Lines in a folder: the form of a store where locks do not work.

Every process appends to a file of its own, so that none can damage another's rows; readers merge all files.
A line that is not whole (its process was killed, or is just writing it) is nothing yet. Of two lines with one
key the earlier counts. That there is but one is the work of a file that only one process can have
created; should it fail, it costs a row written twice, and no row.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pluralism_eval.files import write_atomic
from pluralism_eval.stores import salvage
from pluralism_eval.stores.rows import intact, quarantine, seal

_SUFFIX = ".rows"
_CARRIED = "carried.rows"
"""Rows of the SQLite file that was there before."""
_CHUNK = 1 << 24
_ABANDONED = 60.0
"""Seconds after which somebody's turn is over whether it was given back or not."""


def folder_of(path: Path) -> Path:
    return path.with_name(path.name + ".lines")


class LinesForm:
    """A table of a store that is a folder of lines."""

    def __init__(self, path: Path, table: str) -> None:
        self._table = table
        self._folder = _opened(path.absolute())
        self._folder.refresh()

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        self._folder.refresh()
        return self._folder.read(self._table, keys)

    def items(self) -> dict[str, str]:
        self._folder.refresh()
        return self._folder.read(self._table, self._folder.keys(self._table))

    def put(self, rows: Sequence[tuple[str, str]]) -> None:
        self._folder.add(self._table, dict(rows))

    def __len__(self) -> int:
        self._folder.refresh()
        return len(self._folder.keys(self._table))


class _Place(NamedTuple):
    """Where a row stands; the least of several counts."""

    stamp: int
    """When it was written: nanoseconds since 1970."""
    file: str
    start: int
    length: int


class _Folder:
    """What this process knows of a folder of lines, and its own file in it."""

    def __init__(self, path: Path) -> None:
        self._path, self._folder = path, folder_of(path)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._places: dict[str, dict[str, _Place]] = {}
        self._seen: dict[str, int] = {}
        """File → bytes of it that are known."""
        self._own: tuple[int, int] | None = None
        """(process, handle) of our file."""
        self._lock = threading.RLock()
        if not (self._folder / _CARRIED).exists():
            carried = [_line(t, key, value, 0) for t, key, value in salvage.rows(path)]
            write_atomic(self._folder / _CARRIED, b"".join(carried))

    def keys(self, table: str) -> list[str]:
        return list(self._places.get(table, {}))

    def refresh(self) -> None:
        """Takes in what was written since the last time."""
        with self._lock, os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIX):
                    self._take_in(entry.name)

    def read(self, table: str, keys: Sequence[str]) -> dict[str, str]:
        """Those of ``keys`` that are there, verified as they are read."""
        with self._lock:
            known = self._places.get(table, {})
            wanted = sorted((known[k], k) for k in dict.fromkeys(keys) if k in known)
            found, damaged = {}, []
            file, name = None, ""
            for place, key in wanted:
                if file is None or place.file != name:
                    if file is not None:
                        file.close()
                    file, name = (self._folder / place.file).open("rb"), place.file
                file.seek(place.start)
                line = file.read(place.length)
                row = _parse(line)
                if row is not None and row[1:3] == (table, key):
                    found[key] = row[3]
                else:
                    damaged.append((place, line))
                    del known[key]
            if file is not None:
                file.close()
            self._reject(damaged)
            return found

    def add(self, table: str, rows: dict[str, str]) -> None:
        """Writes those of ``rows`` that nobody has written."""
        with self._lock, self._turn():
            self.refresh()
            known = self._places.get(table, {})
            stamp = time.time_ns()
            new = [_line(table, k, value, stamp) for k, value in rows.items() if k not in known]
            if new:
                self._append(b"".join(new))
                self.refresh()

    # ------------------------------------------------------------------ files

    def _take_in(self, name: str) -> None:
        start, damaged = self._seen.get(name, 0), []
        with (self._folder / name).open("rb") as file:
            if os.fstat(file.fileno()).st_size <= start:
                return
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                row, place = _parse(line), _Place(0, name, start, len(line))
                if row is None:
                    damaged.append((place, line))
                else:
                    stamp, table, key, _ = row
                    known = self._places.setdefault(table, {})
                    place = place._replace(stamp=stamp)
                    known[key] = min(place, known.get(key, place))
                start += len(line)
        self._seen[name] = start
        self._reject(damaged)

    def _reject(self, damaged: Sequence[tuple[_Place, bytes]]) -> None:
        if damaged:
            quarantine(
                self._path, [{"file": p.file, "at": p.start, "line": line} for p, line in damaged]
            )

    def _append(self, data: bytes) -> None:
        """On disk when it returns; nothing, or nothing whole, is there when it fails."""
        if self._own is None or self._own[0] != os.getpid():
            name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self._own = os.getpid(), os.open(self._folder / name, flags, 0o666)
        handle = self._own[1]
        before = os.fstat(handle).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(handle, rest) :]
            os.fsync(handle)
        except OSError:
            self._own = None  # the next row begins a new file
            with suppress(OSError):
                os.ftruncate(handle, before)
            os.close(handle)
            raise

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One process at a time, as far as creating a file is atomic."""
        path, own = self._folder / "turn", f"{socket.gethostname()} {os.getpid()}"
        seen, since = "", time.monotonic()
        while True:
            try:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                break
            except FileExistsError:
                now = _content(path)
                if now != seen:
                    seen, since = now, time.monotonic()
                if _is_over(now, time.monotonic() - since) and _content(path) == now:
                    path.unlink(missing_ok=True)
                time.sleep(random.uniform(0.001, 0.01))
        try:
            os.write(handle, own.encode())
            os.close(handle)
            yield
        finally:
            path.unlink(missing_ok=True)


_opened = lru_cache(maxsize=None)(_Folder)


def _line(table: str, key: str, value: str, stamp: int) -> bytes:
    """``checksum TAB stamp TAB key TAB value``, the last two as JSON, which has neither tabs nor line ends."""
    sealed = f"{stamp}\t{json.dumps(key)}"
    return f"{seal(table, sealed, value)}\t{sealed}\t{value}\n".encode()


def _parse(line: bytes) -> tuple[int, str, str, str] | None:
    """(stamp, table, key, value); None for a line that is damaged."""
    parts = line.removesuffix(b"\n").split(b"\t", 3)
    if len(parts) < 4:
        return None
    found = intact(b"\t".join(parts[1:3]), parts[3], parts[0])
    return (int(parts[1]), found[0], json.loads(parts[2]), found[2]) if found else None


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "-"


def _is_over(holder: str, seconds: float) -> bool:
    """Is the process gone that holds the turn? Known of this host's; of others after a time."""
    host, _, process = holder.partition(" ")
    if host == socket.gethostname() and process.isdigit():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
    return seconds > (_ABANDONED if holder else _ABANDONED / 30)
