"""Overton responses of finished runs: of a run's folder, its samples, or a file of the authors' format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralism_eval.data.docs import read_items
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.json_files import read_lines
from pluralism_eval.plugin import JUDGED
from pluralism_eval.recorded import check_beside
from pluralism_eval.results import read_run
from pluralism_eval.tasks import OVERTON

TASKS = (OVERTON, JUDGED)
Key = tuple[str, str]
"""(id, situation) of an item: an id alone may mean another item in other data."""
_SHOWN = 10


@dataclass(frozen=True)
class Responses:
    """One system's responses."""

    name: str
    """Its method, or the file's name."""
    texts: Mapping[Key, str]
    """In file order; an empty text is an empty response."""


def key_of(doc: Mapping[str, Any]) -> Key:
    """Of a doc, or of an item of the authors' format."""
    return str(doc["id"]), str(doc["situation"])


def read_responses(path: Path) -> Responses:
    """The Overton responses in ``path``.

    Args:
        path: a run's folder or results file, ``samples_*.jsonl``, or a JSON list with ``output``.

    Raises:
        PluralismError: nothing there, no Overton samples, or items without a response (the first ten
            are named).
    """
    if not path.exists():
        raise PluralismError(
            f"{str(path)!r} does not exist; give the folder of a run with --log_samples, its samples_*.jsonl, or a "
            "JSON list with output filled in"
        )
    if path.is_dir() or path.name.startswith("results_"):
        return _of_run(path)
    if path.suffix == ".jsonl":
        return _collected(path.stem, path, _samples(path))
    return _collected(path.stem, path, [_of_item(item) for item in read_items(path)])


def _of_run(path: Path) -> Responses:
    run = read_run(path, transcript=False)
    task = next((task for task in TASKS if task in run.samples), TASKS[0])
    return _collected(run.name, run.path, [_of_sample(row) for row in run.samples_of(task)])


def _samples(path: Path) -> list[tuple[Key, str] | str]:
    try:
        rows = list(read_lines(path))
    except (OSError, ValueError) as error:
        raise PluralismError(f"{path} cannot be read as JSON lines: {error}") from error
    check_beside(path, rows)
    return [_of_sample(row) for row in rows]


def _of_sample(row: Any) -> tuple[Key, str] | str:
    """(key, response) of lm-eval's sample, or what is wrong with it."""
    try:
        return key_of(row["doc"]), str(row["resps"][0][0])
    except (KeyError, TypeError, IndexError) as error:
        return f"no Overton sample of lm-eval ({type(error).__name__}: {error})"


def _of_item(item: Any) -> tuple[Key, str] | str:
    """(key, response) of an item of the authors' format, or what is wrong with it."""
    try:
        key, output = key_of(item), item["output"]
    except (KeyError, TypeError) as error:
        return f"no Overton item ({type(error).__name__}: {error})"
    if not isinstance(output, str):
        return f"output {output!r} is not text"
    return key, output


def _collected(name: str, path: Path, rows: Sequence[tuple[Key, str] | str]) -> Responses:
    texts: dict[Key, str] = {}
    problems = []
    for i, row in enumerate(rows):
        if isinstance(row, str):
            problems.append(f"item {i}: {row}")
        elif row[0] in texts:
            problems.append(f"item {i}: id {row[0][0]!r} occurs twice")
        else:
            texts[row[0]] = row[1]
    if len(problems) > _SHOWN:
        problems = [*problems[:_SHOWN], f"... and {len(problems) - _SHOWN} more"]
    raise_all(f"responses in {path}", problems)
    if not texts:
        raise PluralismError(f"{path} has no responses; at least one is needed")
    return Responses(name, texts)
