"""One SQLite file: the form of a store wherever locks work."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pluralism_eval.stores import salvage
from pluralism_eval.stores.places import is_remote, lock
from pluralism_eval.stores.rows import intact, log, quarantine, seal

T = TypeVar("T")
_WITHOUT_CHECKSUMS = 'CREATE TABLE "{}" (key TEXT PRIMARY KEY, value TEXT NOT NULL)'
"""How stores looked before rows had checksums."""
_AT_ONCE = 500
_TRIES = 3
_NO_DAMAGE = ("full", "locked", "readonly", "unable to open", "disk i/o", "interrupted")
"""What SQLite says where the file may well be whole."""


class Damaged(sqlite3.DatabaseError):
    """The file is not what was written to it."""


class SQLiteForm:
    """A table of a SQLite file; several processes may use it, also while one of them salvages it.

    The journal is a write-ahead log, or, on network and user-space file systems, where processes share no
    memory with those of other hosts, a rollback journal.
    """

    def __init__(self, path: Path, table: str) -> None:
        self._path, self._table = path, table
        self._journal = "delete" if is_remote(path.parent) else "wal"
        self._ready: tuple[int, int] | None = None
        """The file that was seen to have our table."""
        self._do(lambda db: None)

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        return self._do(lambda db: self._get(db, keys))

    def items(self) -> dict[str, str]:
        def work(db: sqlite3.Connection) -> dict[str, str]:
            rows = db.execute(
                f'SELECT rowid, key, value, checksum FROM "{self._table}" ORDER BY rowid DESC'
            )
            return dict(self._intact(db, rows.fetchall()))  # of two, the older stays

        return self._do(work)

    def put(self, rows: Sequence[tuple[str, str]]) -> None:
        sealed = [(key, value, seal(self._table, key, value)) for key, value in dict(rows).items()]

        def insert(db: sqlite3.Connection) -> int:
            with _transaction(db):
                before = db.total_changes
                db.executemany(f'INSERT OR IGNORE INTO "{self._table}" VALUES (?, ?, ?)', sealed)
                return db.total_changes - before

        def work(db: sqlite3.Connection) -> None:
            if insert(db) == len(sealed):
                return
            keys = [key for key, _, _ in sealed]
            if len(self._get(db, keys)) < len(keys):  # a damaged row was in the way
                insert(db)
                if len(self._get(db, keys)) < len(keys):
                    raise Damaged("the index and the rows disagree")

        if sealed:
            self._do(work)

    def __len__(self) -> int:
        return self._do(
            lambda db: int(db.execute(f'SELECT COUNT(*) FROM "{self._table}"').fetchone()[0])
        )

    # ------------------------------------------------------------------ rows

    def _get(self, db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = list(keys[start : start + _AT_ONCE])
            marks = ",".join("?" * len(part))
            rows = db.execute(
                f'SELECT rowid, key, value, checksum FROM "{self._table}" WHERE key IN ({marks})',
                part,
            )
            found.update(self._intact(db, rows.fetchall()))
        if not found.keys() <= set(keys):
            raise Damaged("the index and the rows disagree")
        return found

    def _intact(
        self, db: sqlite3.Connection, rows: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[str, str]]:
        """(key, value) of the rows that are whole; the others are moved to the quarantine."""
        damaged = []
        for row in rows:
            found = intact(*row[1:])
            if found is None or found[0] != self._table:
                damaged.append(row)
            else:
                yield found[1:]
        if damaged:
            names = ("row", "key", "value", "checksum")
            entries = [
                {"table": self._table, **dict(zip(names, row, strict=True))} for row in damaged
            ]
            quarantine(self._path, entries)
            with _transaction(db):
                db.executemany(
                    f'DELETE FROM "{self._table}" WHERE rowid = ?1 AND CAST(key AS BLOB) IS ?2 '
                    "AND CAST(value AS BLOB) IS ?3 AND CAST(checksum AS BLOB) IS ?4",
                    [(row[0], *map(_as_blob, row[1:])) for row in damaged],
                )

    # ------------------------------------------------------------------ the file

    def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """``work`` on an open file that has our table; a damaged one is salvaged first."""
        alone, damages = False, 0
        while True:
            with _gate(self._path, alone):
                seen = _identity(self._path)
                try:
                    with closing(self._connect()) as db:
                        if alone:
                            self._prepare(db)
                        if alone or self._is_ready(db, seen):
                            return work(db)
                    alone = True
                    continue
                except (sqlite3.Error, UnicodeDecodeError) as error:  # a damaged name in a message
                    damages += 1
                    if not _is_damage(error) or damages == _TRIES:
                        raise
                    why = str(error)
            with _gate(self._path, alone=True):
                if _identity(self._path) == seen:  # nobody else has done it meanwhile
                    salvage.renew(self._path, why)

    def _connect(self) -> sqlite3.Connection:
        wal = self._path.with_name(self._path.name + "-wal")
        if not _size(self._path) and _size(wal):  # SQLite would delete the log
            raise Damaged("the file is empty and its log is not")
        db = sqlite3.connect(self._path, timeout=120, isolation_level=None)
        db.text_factory = bytes
        return db

    def _is_ready(self, db: sqlite3.Connection, seen: tuple[int, int] | None) -> bool:
        if seen is None or seen != self._ready:
            mode = db.execute("PRAGMA journal_mode").fetchone()[0].decode()
            if self._tables(db).get(self._table) is not True or mode != self._journal:
                return False
            self._ready = seen
        return True

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Makes the table, or takes over that of an older version. To be called alone."""
        self._tables(db)
        db.execute(f"PRAGMA journal_mode={self._journal}")
        with _transaction(db):
            known = self._tables(db).get(self._table)
            if known is None:
                db.execute(salvage.TABLE.format(self._table))
            elif not known:
                self._adopt(db)
        self._ready = _identity(self._path)

    def _tables(self, db: sqlite3.Connection) -> dict[str, bool]:
        """Table → has it checksums. Raises Damaged for anything that no version wrote."""
        found: dict[str, bool] = {}
        for kind, name, sql in db.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
            if (kind, sql) == (b"index", None):
                continue
            name = name.decode("utf-8", "replace")
            forms = [salvage.TABLE.format(name).encode(), _WITHOUT_CHECKSUMS.format(name).encode()]
            if kind != b"table" or sql not in forms:
                raise Damaged("its schema is not the one that was written")
            found[name] = sql == forms[0]
        return found

    def _adopt(self, db: sqlite3.Connection) -> None:
        """Gives the rows of a table of an older version checksums, once, as they are."""
        old = f"{self._table} without checksums"
        db.execute(f'ALTER TABLE "{self._table}" RENAME TO "{old}"')
        db.execute(salvage.TABLE.format(self._table))
        n, unread = 0, []
        for row, key, value in db.execute(f'SELECT rowid, key, value FROM "{old}"'):
            try:
                texts = key.decode(), value.decode()
                json.loads(texts[1])
            except (ValueError, AttributeError):
                unread.append({"table": self._table, "row": row, "key": key, "value": value})
                continue
            sealed = (*texts, seal(self._table, *texts))
            db.execute(f'INSERT OR IGNORE INTO "{self._table}" VALUES (?, ?, ?)', sealed)
            n += 1
        if unread:
            quarantine(self._path, unread)
        db.execute(f'DROP TABLE "{old}"')
        log.warning(
            "%s: the %d rows of %s are of a version without checksums; they have them from now on",
            self._path, n, self._table,
        )  # fmt: skip


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


@contextmanager
def _gate(path: Path, alone: bool = False) -> Iterator[None]:
    """Many pass at a time, or one ``alone``: while a file is replaced nobody writes to the old one."""
    handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        lock(handle, alone)
        yield
    finally:
        os.close(handle)


def _is_damage(error: Exception) -> bool:
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return False
    return not any(words in str(error).lower() for words in _NO_DAMAGE)


def _as_blob(value: Any) -> bytes | None:
    return None if value is None else value if isinstance(value, bytes) else str(value).encode()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    return state.st_dev, state.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
