"""Samples of a submission: what of lm-eval's rows is kept, packed the same every time, read with bounds."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from pluralism_eval.cache import digest
from pluralism_eval.files import open_regular
from pluralism_eval.json_files import loads, python_value
from pluralism_eval.leaderboard.schema import Damaged, parse
from pluralism_eval.tasks import TASKS

Row = dict[str, Any]
MAX_BYTES = 512 << 20
"""Of one task's samples after unpacking."""
MAX_LINE = 2 << 20
MAX_ROWS = 200_000
_GOLD = ("gold", "target", "explanations", "values", "group", "cluster", "respondents", "others")


def file_name(task: str) -> str:
    """Of the packed samples of a task, by its short name."""
    return f"samples_{task}.jsonl.gz"


def kept(task: str, row: Mapping[str, Any]) -> Row:
    """What recomputing needs of a sample as lm-eval logs it: the doc, the raw responses, verdicts.

    Raises:
        Damaged: something of it is missing, or is not what lm-eval logs.
    """
    try:
        found = {name: row[name] for name in ("doc_id", "doc", "resps")}
        if TASKS[task].is_text:
            found["verdict"] = row["verdict"] if "verdict" in row else _verdict(row)
        found |= {name: row[name] for name in TASKS[task].logged}
    except (KeyError, IndexError, TypeError) as error:
        raise Damaged(f"{type(error).__name__} {error}; a sample needs it") from error
    if not isinstance(found["doc_id"], int) or not isinstance(found["doc"], dict):
        raise Damaged(f"doc_id {found['doc_id']!r} must be a number, and doc an object")
    try:
        read: Row = json.loads(_line(found))  # tuples become lists, as in a file
    except ValueError as error:
        raise Damaged(f"cannot be written as JSON: {error}") from error
    return read


def _verdict(row: Mapping[str, Any]) -> Any:
    """What the coverage filter found; lm-eval logs it as the text of a Python object."""
    logged = row["filtered_resps"][0]
    if isinstance(logged, str):
        try:
            logged = python_value(logged)
        except ValueError as error:
            raise Damaged(f"filtered_resps is no verdict: {error}") from error
    return logged


def _line(row: Row) -> str:
    return json.dumps(row, sort_keys=True, separators=(",", ":"), allow_nan=False)


def packed(rows: Iterable[Row]) -> bytes:
    """gzip without a time or a name in it: equal rows are equal bytes."""
    text = "".join(_line(row) + "\n" for row in rows)
    return gzip.compress(text.encode(), mtime=0)


def sha256_of(rows: Iterable[Row]) -> str:
    """Of the lines that :func:`packed` compresses."""
    found = hashlib.sha256()
    for row in rows:
        found.update(f"{_line(row)}\n".encode())
    return found.hexdigest()


def read_packed(path: Path) -> tuple[list[Row], str]:
    """(rows, SHA-256 of the unpacked lines) of an untrusted file.

    Raises:
        Damaged: not such a file, or one that unpacks to more than is sensible.
    """
    seen = hashlib.sha256()
    rows: list[Row] = []
    if path.is_symlink():
        raise Damaged("is a link; links are not followed")
    try:
        with gzip.open(open_regular(path, MAX_BYTES), "rb") as file:
            for number, line in enumerate(_lines(file), 1):
                seen.update(line)
                rows.append(_row(line, number))
    except Damaged:
        raise
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise Damaged(f"cannot be unpacked: {type(error).__name__} {error}") from error
    return rows, seen.hexdigest()


def read_logged(task: str, path: Path) -> tuple[list[Row], str]:
    """The same of the samples that lm-eval itself left (``samples_<task>_*.jsonl``)."""
    rows = []
    if path.is_symlink():
        raise Damaged("is a link; links are not followed")
    try:
        with open_regular(path, MAX_BYTES) as file:
            for number, line in enumerate(_lines(file), 1):
                try:
                    rows.append(kept(task, loads(line)))
                except ValueError as error:
                    raise Damaged(f"line {number}: {str(error)[:200]}") from error
    except Damaged:
        raise
    except (OSError, ValueError) as error:
        raise Damaged(f"cannot be read: {error}") from error
    rows.sort(key=lambda row: int(row["doc_id"]))
    return rows, sha256_of(rows)


def _lines(file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    """Lines, until one or all of them are too long: a small file may unpack to terabytes."""
    total = 0
    for n in range(MAX_ROWS + 1):
        line = file.readline(MAX_LINE + 1)
        total += len(line)
        if not line:
            return
        if len(line) > MAX_LINE:
            raise Damaged(f"line {n + 1} is longer than {MAX_LINE:,} bytes")
        if total > MAX_BYTES:
            raise Damaged(f"unpacks to more than {MAX_BYTES:,} bytes")
        yield line
    raise Damaged(f"has more than {MAX_ROWS:,} rows")


def _row(line: bytes, number: int) -> Row:
    try:
        row = parse(line.decode("utf-8"))
    except (Damaged, UnicodeDecodeError) as error:
        raise Damaged(f"line {number}: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("doc"), dict):
        raise Damaged(f"line {number}: no object with a doc")
    if not isinstance(row.get("doc_id"), int) or isinstance(row["doc_id"], bool):
        raise Damaged(f"line {number}: doc_id {row.get('doc_id')!r} is no whole number")
    return row


def docs_sha256(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of the docs: number, id, query, attribute and gold answer of each, in order."""
    found = hashlib.sha256()
    for row in rows:
        doc = row["doc"]
        told = [row["doc_id"], doc.get("id"), doc.get("query"), _attribute(doc)]
        found.update(digest([*told, *(doc.get(name) for name in _GOLD)]).encode())
    return found.hexdigest()


def _attribute(doc: Mapping[str, Any]) -> Any:
    meta = doc.get("pluralism")
    return meta.get("attribute") if isinstance(meta, dict) else None


def order_problems(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows that occur twice or out of order."""
    found, before = [], -1
    seen: set[int] = set()
    for i, row in enumerate(rows):
        doc_id = int(row["doc_id"])
        if doc_id in seen:
            found.append(f"row {i}: doc {doc_id} occurs twice")
        elif doc_id < before:
            found.append(f"row {i}: doc {doc_id} comes after doc {before}; rows are in doc order")
        seen.add(doc_id)
        before = max(before, doc_id)
    return found
