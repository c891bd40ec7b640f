"""Takes what is intact out of a damaged SQLite file, whatever SQLite itself makes of it.

The pages are read as they lie on disk (https://www.sqlite.org/fileformat2.html); neither the header nor the
tree of pages has to be right, because every row says by its checksum what it is.
"""

from __future__ import annotations

import logging
import mmap
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from pluralism_eval.stores.rows import intact, seal

log = logging.getLogger(__name__)

TABLE = 'CREATE TABLE "{}" (key TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT NOT NULL)'
BESIDE = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file."""

_PAGE = 4096
"""Bytes; SQLite's default, which is that of our stores."""
_TREE = (0x02, 0x05, 0x0A)
"""Kinds of pages that hold no rows of a table; 0 begins a page of a long row's rest, or an empty one."""
_WAL_HEAD, _FRAME_HEAD = 32, 24

_Row = tuple[str, str, str]
_Pages = Callable[[int], bytes]


def renew(path: Path, why: str) -> None:
    """Puts a new file with the intact rows in place of ``path``, which is kept as ``<name>.damaged-<n>``.

    Nobody else may use the store meanwhile. Interrupted at any point, it loses nothing when begun again.

    Raises:
        sqlite3.Error, OSError: no room for the new file, for instance; the old one is where it was.
    """
    begun = path.with_name(path.name + ".salvaged")
    scratch = path.with_name(path.name + ".salvaging")
    scratch.unlink(missing_ok=True)
    try:
        n = _write(scratch, _sources(path, begun))
        os.replace(scratch, begun)
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
    kept = _free_name(path)
    for suffix in BESIDE:  # first: SQLite would apply an old log to a new file
        with suppress(FileNotFoundError):
            os.replace(f"{path}{suffix}", f"{kept}{suffix}")
    with suppress(FileNotFoundError):
        try:
            os.link(path, kept)
        except (OSError, NotImplementedError):  # no hard links there
            shutil.copy2(path, kept)
    os.replace(begun, path)
    log.warning(
        "%s was damaged (%s): its %d intact rows are in a new file, the others are computed again; the damaged "
        "file is kept as %s", path, why, n, kept,
    )  # fmt: skip


def rows(path: Path) -> Iterator[_Row]:
    """(table, key, value) of the intact rows in ``path`` and in the log beside it; a key may come twice,
    the older row first."""
    main, wal = _content(path), _content(path.with_name(path.name + "-wal"))
    sizes = [int.from_bytes(main[16:18], "big"), int.from_bytes(wal[8:12], "big"), _PAGE]
    for size in dict.fromkeys(s for s in sizes if s in [512 << i for i in range(7)]):
        found = _all(main, wal, size)
        first = next(found, None)
        if first is not None:
            yield first
            yield from found
            return


def _sources(path: Path, begun: Path) -> Iterator[_Row]:
    yield from rows(path)
    yield from rows(begun)  # of a salvage that was interrupted


def _write(path: Path, found: Iterator[_Row]) -> int:
    tables: set[str] = set()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(f"PRAGMA page_size={_PAGE}")
        db.execute("BEGIN IMMEDIATE")
        for table, key, value in found:
            if table not in tables:
                tables.add(table)
                db.execute(TABLE.format(table))
            row = (key, value, seal(table, key, value))
            db.execute(f'INSERT OR IGNORE INTO "{table}" VALUES (?, ?, ?)', row)
        db.execute("COMMIT")
        return sum(db.execute(f'SELECT COUNT(*) FROM "{t}"').fetchone()[0] for t in tables)


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged-{n}") for n in count(1))
    return next(n for n in names if not any(os.path.lexists(f"{n}{s}") for s in ("", *BESIDE)))


# ---------------------------------------------------------------------- pages


def _content(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, ValueError):  # an empty file cannot be mapped
        return b""


def _all(main: mmap.mmap | bytes, wal: mmap.mmap | bytes, size: int) -> Iterator[_Row]:
    frames = range(_WAL_HEAD, len(wal), _FRAME_HEAD + size)
    logged = {int.from_bytes(wal[at : at + 4], "big"): at + _FRAME_HEAD for at in frames}

    def in_main(number: int) -> bytes:
        return bytes(main[(number - 1) * size : number * size])

    def in_log(number: int) -> bytes:
        return bytes(wal[logged[number] : logged[number] + size]) if number in logged else b""

    for number in range(1, len(main) // size + 2):  # the last may be a part
        yield from _of_page(in_main(number), (in_main, in_log))
    for at in frames:
        page = bytes(wal[at + _FRAME_HEAD : at + _FRAME_HEAD + size])
        yield from _of_page(page, (in_log, in_main))


def _of_page(page: bytes, elsewhere: tuple[_Pages, _Pages]) -> Iterator[_Row]:
    if len(page) < 8 or page[0] in (0, *_TREE):
        return
    cells = min(int.from_bytes(page[3:5], "big"), len(page) // 6)
    for i in range(cells):
        start = int.from_bytes(page[8 + 2 * i : 10 + 2 * i], "big")
        for pages in (lambda n: elsewhere[0](n) or elsewhere[1](n), elsewhere[1]):
            try:
                row = _of_cell(page, start, pages)
            except (IndexError, ValueError):  # not a row, or only a part of one
                continue
            if row is not None:
                yield row
                break


def _of_cell(page: bytes, start: int, pages: _Pages) -> _Row | None:
    """A row of three texts, the last of which is the checksum; None if it is not, or not intact."""
    length, at = _varint(page, start)
    _, at = _varint(page, at)
    usable = len(page)
    if length > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (usable - 4)
        local = local if local <= usable - 35 else least
        payload = page[at : at + local]
        following = int.from_bytes(page[at + local : at + local + 4], "big")
        payload += _rest(following, length - local, pages)
    else:
        payload = page[at : at + length]
    return _of_record(payload[:length])


def _rest(number: int, length: int, pages: _Pages) -> bytes:
    parts = []
    while length > 0:
        page = pages(number)
        if len(page) < 5:
            raise ValueError("the chain of pages breaks off")
        parts.append(page[4 : 4 + length])
        length -= len(parts[-1])
        number = int.from_bytes(page[:4], "big")
    return b"".join(parts)


def _of_record(payload: bytes) -> _Row | None:
    head, at = _varint(payload, 0)
    kinds: list[int] = []
    while at < head and len(kinds) < 4:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    if len(kinds) != 3 or any(kind < 13 or kind % 2 == 0 for kind in kinds):
        return None
    texts = []
    for kind in kinds:
        texts.append(payload[at : at + (kind - 13) // 2])
        at += (kind - 13) // 2
    return intact(*texts)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(value, where it ends): seven bits a byte, at most nine bytes."""
    value = 0
    for i in range(8):
        value = value << 7 | data[at + i] & 0x7F
        if data[at + i] < 0x80:
            return value, at + i + 1
    return value << 8 | data[at + 8], at + 9
