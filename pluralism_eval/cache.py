"""Where things are kept between runs, and the one store that keeps them."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError

CACHE_VARIABLE = "PLURALISM_EVAL_CACHE"


def cache_root() -> Path:
    """``$PLURALISM_EVAL_CACHE``, else ``pluralism-eval`` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pluralism-eval"


def digest(value: Any) -> str:
    """SHA-256 over the canonical JSON of ``value``: the key of whatever depends on it."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Store:
    """Key → JSON value in one SQLite file. Safe under several processes; each write is atomic."""

    def __init__(self, path: Path, table: str) -> None:
        self.path, self._table = path, table
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as db, db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(
                f'CREATE TABLE IF NOT EXISTS "{table}" (key TEXT PRIMARY KEY, value TEXT NOT NULL)'
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=120)

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The stored values among ``keys``."""
        found: dict[str, Any] = {}
        with closing(self._connect()) as db, db:
            for start in range(0, len(keys), 500):
                part = list(keys[start : start + 500])
                marks = ",".join("?" * len(part))
                rows = db.execute(
                    f'SELECT key, value FROM "{self._table}" WHERE key IN ({marks})', part
                )
                found.update((key, json.loads(value)) for key, value in rows)
        return found

    def items(self) -> dict[str, Any]:
        """Everything, for tables that stay small."""
        with closing(self._connect()) as db, db:
            rows = db.execute(f'SELECT key, value FROM "{self._table}"').fetchall()
        return {key: json.loads(value) for key, value in rows}

    def put(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Write all of ``values`` in one transaction; what is there already stays as it is.

        When this returns the values are on disk. Raises PluralismError if they cannot be.
        """
        rows = [(key, json.dumps(value, ensure_ascii=False)) for key, value in dict(values).items()]
        try:
            with closing(self._connect()) as db, db:
                db.executemany(f'INSERT OR IGNORE INTO "{self._table}" VALUES (?, ?)', rows)
        except sqlite3.OperationalError as error:
            raise PluralismError(
                f"the store {str(self.path)!r} cannot be written: {error}. Nothing in it is lost; "
                f"make room (or move it with {CACHE_VARIABLE}) and run again"
            ) from error

    def __len__(self) -> int:
        with closing(self._connect()) as db, db:
            return int(db.execute(f'SELECT COUNT(*) FROM "{self._table}"').fetchone()[0])
