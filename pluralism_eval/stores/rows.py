"""A row and its checksum, and the quarantine of rows that do not match theirs."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

from pluralism_eval.schema import fields_of

log = logging.getLogger(__name__)

_warned: set[Path] = set()


class Form(Protocol):
    """One table of a store: key → JSON text."""

    def get(self, keys: Sequence[str]) -> dict[str, str]:
        """Those of ``keys`` whose rows are there and intact."""

    def items(self) -> dict[str, str]:
        """All intact rows."""

    def put(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write all of them to disk; a key that is there keeps its value."""

    def __len__(self) -> int: ...


def seal(table: str, key: str, value: str) -> str:
    """``table:hash``, over all three: says whether a row is whole, and where it belongs."""
    return f"{table}:{_hash(table.encode(), key.encode(), value.encode())}"


def intact(key: Any, value: Any, checksum: Any) -> tuple[str, str, str] | None:
    """(table, key, value) of a row as it was read (bytes), if it is what was written."""
    if not all(isinstance(part, bytes) for part in (key, value, checksum)):
        return None  # a damaged row may hold anything
    table, _, hashed = checksum.rpartition(b":")
    if _hash(table, key, value).encode() != hashed:
        return None
    return table.decode(), key.decode(), value.decode()


def _hash(table: bytes, key: bytes, value: bytes) -> str:
    found = blake2b(b"%d,%d:%b:%b:" % (len(table), len(key), table, key), digest_size=16)
    found.update(value)
    return found.hexdigest()


def as_text(value: Any) -> str:
    """``value`` as JSON that UTF-8 can hold: half a surrogate pair, which strings may have, is escaped.

    Dataclasses become objects.
    """
    text = json.dumps(value, ensure_ascii=False, default=fields_of)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, default=fields_of)
    return text


def quarantine_file(path: Path) -> Path:
    """Where the damaged rows of the store ``path`` are kept for inspection."""
    return path.with_name(path.name + ".quarantine")


def quarantine(path: Path, damaged: Sequence[Mapping[str, Any]]) -> None:
    """Adds rows to the quarantine of ``path``, each once, and warns of it once a process."""
    file = quarantine_file(path)
    known = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    lines = [json.dumps({k: _shown(v) for k, v in row.items()}) for row in damaged]
    new = [line for line in dict.fromkeys(lines) if line not in set(known)]
    if new:
        with file.open("a", encoding="utf-8") as out:
            out.write("".join(line + "\n" for line in new))
            out.flush()
            os.fsync(out.fileno())
    if path not in _warned:
        _warned.add(path)
        log.warning(
            "%s: %d damaged rows are not used, but computed again; %s keeps them (%d in all)",
            path, len(damaged), file, len(known) + len(new),
        )  # fmt: skip


def _shown(value: Any) -> Any:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
