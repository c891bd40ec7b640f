"""Where things are kept between runs, and the one store that keeps them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.stores import lines
from pluralism_eval.stores.places import file_system, lock_fault
from pluralism_eval.stores.rows import Form, as_text
from pluralism_eval.stores.sqlite import SQLiteForm

CACHE_VARIABLE = "PLURALISM_EVAL_CACHE"
FORM_VARIABLE = "PLURALISM_EVAL_STORE"
"""``lines``: write stores as lines also where locks seem to work, as between hosts they may not."""

log = logging.getLogger(__name__)
_AT_ONCE = 4000
"""Values in memory while :meth:`Store.known` looks for them."""
_told: set[Path] = set()


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
    """Key → JSON value on disk. Safe under several processes; each write is atomic.

    Every row has a checksum, which is checked whenever it is read: a damaged row counts as missing, and is
    kept beside the store (``<name>.quarantine``). Of a damaged file the intact rows are carried to a new one.
    Where locks work a store is one SQLite file, elsewhere a folder of lines (``<name>.lines``).

    Raises:
        PluralismError: from every method, if the store cannot be read or written.
    """

    def __init__(self, path: Path, table: str) -> None:
        self.path = path
        with self._failing("opened"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._form = _form(path, table)

    def get(self, keys: Sequence[str]) -> dict[str, Any]:
        """The stored values among ``keys``."""
        with self._failing("read"):
            found = self._form.get(keys)
        return {key: json.loads(value) for key, value in found.items()}

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of ``keys`` that :meth:`get` would give; their values are read, but not kept."""
        found: set[str] = set()
        with self._failing("read"):
            for start in range(0, len(keys), _AT_ONCE):
                found |= self._form.get(keys[start : start + _AT_ONCE]).keys()
        return found

    def items(self) -> dict[str, Any]:
        """Everything, for tables that stay small."""
        with self._failing("read"):
            found = self._form.items()
        return {key: json.loads(value) for key, value in found.items()}

    def put(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Write all of ``values`` in one transaction; what is there already stays as it is.

        When this returns the values are on disk. Raises PluralismError if they cannot be.
        """
        rows = [(key, as_text(value)) for key, value in dict(values).items()]
        with self._failing("written"):
            self._form.put(rows)

    def __len__(self) -> int:
        with self._failing("read"):
            return len(self._form)

    @contextmanager
    def _failing(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise PluralismError(
                f"the store {str(self.path)!r} cannot be {what}: {error}. Nothing in it is lost; "
                f"{_advice(str(error).lower())} (or move it with {CACHE_VARIABLE}) and run again"
            ) from error


def _form(path: Path, table: str) -> Form:
    """SQLite, unless the store has begun as lines or file locks do not work where it is."""
    why = ""
    if os.environ.get(FORM_VARIABLE) == "lines":
        why = f"{FORM_VARIABLE}=lines"
    elif lines.folder_of(path).exists():
        why = "so it was begun"
    else:
        why = lock_fault(path.parent.absolute())
    if not why:
        return SQLiteForm(path, table)
    if path not in _told:
        _told.add(path)
        log.warning(
            "%s is kept as lines in %s, a file a process (%s%s)",
            path.name, lines.folder_of(path), why, f", {file_system(path.parent)}",
        )  # fmt: skip
    return lines.LinesForm(path, table)


def _advice(reason: str) -> str:
    if "locked" in reason:
        return "end the process that holds it"
    if any(w in reason for w in ("readonly", "read-only", "permission", "not permitted", "unable")):
        return "make it and its folder writable for you"
    if "not a directory" in reason or "file exists" in reason:
        return "move away the file that is in the place of its folder"
    return "make room"
