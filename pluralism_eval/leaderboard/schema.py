"""``submission.json``: its schema, and how an untrusted one is read."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from pluralism_eval.files import read_bounded
from pluralism_eval.json_files import loads

FORMAT = "pluralism-eval submission"
VERSION = 3
FILE = "submission.json"
MAX_BYTES = 4 << 20
_SHOWN = 20
_LONGEST = 200  # characters of a value in a problem


class Damaged(ValueError):
    """A file that cannot be used, and why."""


def parse(text: str) -> Any:
    """JSON without what JSON has not: NaN, Infinity, a key given twice.

    Raises:
        Damaged: no such JSON.
    """
    try:
        return loads(text, _unique, _no_constant)
    except Damaged:
        raise
    except ValueError as error:
        raise Damaged(f"no JSON: {type(error).__name__} {str(error)[:_LONGEST]}") from error


def _no_constant(name: str) -> Any:
    raise Damaged(f"{name} is no JSON number; what has no value is null")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Damaged(f"the key {twice[:_LONGEST]!r} stands twice in one object")
    return found


def load(folder: Path) -> dict[str, Any]:
    """The ``submission.json`` of ``folder``, valid by its schema.

    Raises:
        Damaged: every problem, one a line.
    """
    if folder.is_symlink():
        raise Damaged("the folder is a link; links are not followed")
    path = folder / FILE
    if path.is_symlink() or not path.is_file():
        raise Damaged(f"{FILE} is missing (links are not followed)")
    try:
        found = parse(read_bounded(path, MAX_BYTES).decode("utf-8"))
    except Damaged as error:
        raise Damaged(f"{FILE}: {error}") from error
    except (OSError, ValueError) as error:
        raise Damaged(f"{FILE} cannot be read: {error}") from error
    problems = problems_of(found)
    if problems:
        raise Damaged("\n".join(f"{FILE}: {problem}" for problem in problems))
    loaded: dict[str, Any] = found
    return loaded


def problems_of(found: Any) -> list[str]:
    """What is wrong with a submission by the schema; the version first, since all else hangs on it."""
    if not isinstance(found, dict):
        return [f"must be a JSON object, it is {_short(found)}"]
    if found.get("format") != FORMAT:
        return [f"format must be {FORMAT!r}, it is {_short(found.get('format'))}"]
    if found.get("version") != VERSION:
        return [
            f"version {_short(found.get('version'))} of the schema is not {VERSION}, the one of this package. There is no "
            "conversion, since the scores belong to a version: submit the run again (pluralism-eval submit RUN), or "
            "verify with the version of the package that made it"
        ]
    # the first ones only: an error takes some 10 KB, and a hostile file has a million
    first = list(islice(_validator().iter_errors(found), _SHOWN + 1))
    problems = [
        f"{error.json_path.removeprefix('$.')}: {_short(error.message)}"
        for error in sorted(first[:_SHOWN], key=lambda e: e.json_path)
    ]
    return problems if len(first) <= _SHOWN else [*problems, "... and more"]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else " " for c in text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"


@lru_cache(maxsize=1)
def schema() -> dict[str, Any]:
    """The JSON Schema that ships with the package."""
    text = (files("pluralism_eval.leaderboard") / "submission.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@lru_cache(maxsize=1)
def _validator() -> Draft202012Validator:
    return Draft202012Validator(schema())


def write(submission: dict[str, Any]) -> str:
    """As people read it: fields in a fixed order, one a line; the same text for the same content."""
    return json.dumps(submission, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
