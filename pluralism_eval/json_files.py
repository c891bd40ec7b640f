"""JSON of others: every file of a stranger is parsed here, within limits of size, depth and length of a line.

All functions raise OSError or ValueError, with a reason in one line; callers add which file and what it is for.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pluralism_eval.files import open_regular, read_bounded

DEEPEST = 100
"""Lists and objects inside each other. Python's own parser gives up at about 1,000, its writers earlier."""
MOST_CONTAINERS = 5_000_000
"""Lists and objects of one text: each takes about 60 bytes of memory, and only two of the file."""
FILE_BYTES = 32 << 20
"""Of a file that describes something: results of a run, a configuration, a key of a study."""
DATA_BYTES = 1 << 30
"""Of a file of items: an input, exported messages."""
LINE_BYTES = 16 << 20
"""Of one line of JSON Lines: one doc with all that was sent for it."""
LITERAL_CHARACTERS = 512 << 10
"""Of a Python value that was logged as text."""
HEADER_BYTES = 32 << 20
"""Of the names and shapes at the beginning of a file of weights."""
LINES_BYTES = 4 << 30
"""Of a file of JSON Lines."""


def loads(text: str | bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None,
          constant: Callable[[str], Any] | None = None) -> Any:  # fmt: skip
    """As ``json.loads``, but what is nested too deeply is a ValueError, also for who uses it later.

    Args:
        pairs: makes an object of its pairs. ``constant``: reads NaN and Infinity.
    """
    if isinstance(text, str):
        containers = text.count("[") + text.count("{")
    else:
        containers = text.count(b"[") + text.count(b"{")
    if containers > MOST_CONTAINERS:
        raise ValueError(f"it has more than {MOST_CONTAINERS:,} lists and objects")
    try:
        found = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    if containers > DEEPEST:
        _check_depth(found)
    return found


def _check_depth(value: Any) -> None:
    level = [value] if isinstance(value, (list, dict)) else []
    for _ in range(DEEPEST):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (list, dict))
        ]
    if level:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def read_json(path: Path, most: int = FILE_BYTES) -> Any:
    """The content of a JSON file of at most ``most`` bytes, in UTF-8."""
    return loads(read_bounded(path, most).decode("utf-8"))


def read_lines(path: Path, unfinished: list[bytes] | None = None) -> Iterator[Any]:
    """Every line of a JSON Lines file, empty ones left out; only "\\n" ends a line.

    Args:
        unfinished: takes a last line without an end, which is then not parsed; else it is a line like others.
    """
    with open_regular(path, LINES_BYTES) as file:
        number = 0
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise ValueError(f"line {number} is longer than {LINE_BYTES:,} bytes")
            if unfinished is not None and not line.endswith(b"\n"):
                unfinished.append(line)
            elif line != b"\n":
                yield _line(line, number)


def _line(line: bytes, number: int) -> Any:
    try:
        return loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def python_value(text: str) -> Any:
    """The plain value that ``text`` writes as Python: lm-eval logs some so. Raises ValueError: none, or too large."""
    if len(text) > LITERAL_CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters, more than {LITERAL_CHARACTERS:,}")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"it is no plain Python value ({type(error).__name__})") from None


def safetensors_header(path: Path) -> dict[str, Any]:
    """Name → dtype, shape and place of the tensors in a file of weights, which is not read further."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > HEADER_BYTES:
            raise ValueError(f"its header has {size:,} bytes, more than {HEADER_BYTES:,}")
        found = loads(file.read(size))
    if not isinstance(found, dict):
        raise ValueError("its header is no object")
    return found
