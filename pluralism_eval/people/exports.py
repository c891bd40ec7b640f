"""Reads back what annotators exported from the page of a study, by its key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.json_files import read_json
from pluralism_eval.people.study import KEY_FORMAT

FORMAT = "pluralism-eval annotations, version 1"
OUTCOMES = ("win", "tie", "lose")
"""Of the run against the baseline."""
_CHOICES = ("first", "tie", "second")
_SHOWN = 10


@dataclass(frozen=True)
class KeyPair:
    """One pair of the study."""

    doc: str
    """Doc id in the two runs."""
    run: str
    """Id of the run's response on the page."""
    baseline: str


@dataclass(frozen=True)
class Key:
    """What tells the two systems of a study apart."""

    study: str
    run: str
    """Name of the run's system."""
    baseline: str
    pairs: Mapping[str, KeyPair]
    """Pair id on the page → pair, in the key's order."""


@dataclass(frozen=True)
class Answer:
    """One annotator about one pair."""

    outcome: str
    """One of :data:`OUTCOMES`."""
    first: bool | None
    """Whether the response shown first was chosen; None for a tie."""
    run_first: bool
    """Whether the run's response was shown first."""
    seconds: float
    """How long the pair was on a visible page."""


@dataclass(frozen=True)
class Export:
    """One annotator's answers."""

    annotator: str
    path: Path
    answers: Mapping[str, Answer]
    """Pair id → answer; pairs without one are absent."""


def read_key(path: Path) -> Key:
    """The key that ``annotate make`` wrote beside the page.

    Raises:
        PluralismError: a file that is no such key.
    """
    content = _object(path, "key of a study", KEY_FORMAT)
    try:
        pairs = {
            str(p["pair"]): KeyPair(str(p["id"]), str(p["run"]), str(p["baseline"]))
            for p in content["pairs"]
        }
        run, baseline = content["run"]["name"], content["baseline"]["name"]
        return Key(str(content["study"]), str(run), str(baseline), pairs)
    except (KeyError, TypeError) as error:
        raise PluralismError(f"{path} is a damaged key of a study: {_said(error)}") from error


def read_exports(paths: Sequence[Path], key: Key) -> list[Export]:
    """The exports of all annotators.

    Raises:
        PluralismError: one error with *all* files that are damaged, of another study or without any
            answer, and all annotators who occur twice.
    """
    exports: list[Export] = []
    problems = []
    seen: dict[str, Path] = {}
    for path in paths:
        try:
            export = read_export(path, key)
        except PluralismError as error:
            problems.append(str(error))
            continue
        name = export.annotator.casefold()
        if name in seen:
            problems.append(
                f"{path}: annotator {export.annotator!r} is in {seen[name]} already; give one file each"
            )
        seen.setdefault(name, path)
        exports.append(export)
    raise_all("exports that cannot be used; mend them or leave them out", problems)
    return exports


def read_export(path: Path, key: Key) -> Export:
    """One annotator's file.

    Raises:
        PluralismError: a damaged file, one of another study, or one without any answer.
    """
    content = _object(path, "export of the annotation page", FORMAT)
    if content.get("study") != key.study:
        raise PluralismError(
            f"{path} belongs to study {content.get('study')!r}, the key to {key.study!r}; give the key "
            "that was written beside the page it came from"
        )
    name, rows = content.get("annotator"), content.get("answers")
    if not isinstance(name, str) or not name.strip() or not isinstance(rows, list):
        raise PluralismError(f"{path} is damaged: no annotator, or no list of answers")
    if not rows:
        raise PluralismError(f"{path} holds no answer (annotator {name!r})")
    answers: dict[str, Answer] = {}
    problems = []
    for i, row in enumerate(rows):
        try:
            pair, answer = _answer(row, key)
            if pair in answers:
                raise ValueError(f"pair {pair!r} is answered twice")
            answers[pair] = answer
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            problems.append(f"answer {i}: {_said(error)}")
    if len(problems) > _SHOWN:
        problems = [*problems[:_SHOWN], f"... and {len(problems) - _SHOWN} more"]
    raise_all(f"{path} is damaged", problems)
    return Export(name.strip(), path, answers)


def _answer(row: Any, key: Key) -> tuple[str, Answer]:
    pair, shown, choice, seconds = (row[k] for k in ("pair", "shown", "choice", "seconds"))
    if pair not in key.pairs:
        raise ValueError(f"pair {pair!r} is not in the study")
    run, baseline = key.pairs[pair].run, key.pairs[pair].baseline
    if shown not in ([run, baseline], [baseline, run]):
        raise ValueError(f"shown {shown!r} are not the two responses of pair {pair!r}")
    if choice not in _CHOICES:
        raise ValueError(f"choice {choice!r} is none of {', '.join(_CHOICES)}")
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds {seconds!r} is no number")
    if not 0 <= seconds < math.inf:
        raise ValueError(f"seconds {seconds!r} must be 0 or more")
    run_first = shown[0] == run
    if choice == "tie":
        return pair, Answer("tie", None, run_first, float(seconds))
    first = choice == "first"
    outcome = "win" if first == run_first else "lose"
    return pair, Answer(outcome, first, run_first, float(seconds))


def read_judge(path: Path, key: Key) -> dict[str, str]:
    """Doc id → outcome (``unparsed`` as well) from what ``pluralism-eval judge --json`` prints.

    Each of its ``pairs`` has an ``id`` and an ``outcome``.

    Raises:
        PluralismError: a file of another form (the first ten problems are named), or one that judged
            the baseline against the run.
    """
    content = _object(path, "judge's verdicts (pluralism-eval judge ... --json)", None)
    rows = content.get("pairs")
    if not isinstance(rows, list):
        raise PluralismError(
            f'{path} has no list "pairs"; give what pluralism-eval judge --json printed'
        )
    _refuse_reversed(content, path, key)
    found: dict[str, str] = {}
    problems = []
    for i, row in enumerate(rows):
        try:
            doc, outcome = str(row["id"]), _outcome(row)
            if doc in found:
                raise ValueError(f"id {doc!r} occurs twice")
            found[doc] = outcome
        except (KeyError, TypeError, ValueError) as error:
            problems.append(f"pair {i}: {_said(error)}")
    raise_all(f"{path}: verdicts that cannot be used", problems[:_SHOWN])
    return found


def _refuse_reversed(content: dict[str, Any], path: Path, key: Key) -> None:
    sides = [content.get(side) for side in ("run", "baseline")]
    names = [side.get("name") if isinstance(side, dict) else None for side in sides]
    if names == [key.baseline, key.run] and names[0] != names[1]:
        raise PluralismError(
            f"{path} judges {names[0]} against {names[1]}, and the study {key.run} against {key.baseline}; judge them "
            "the same way round"
        )


def _outcome(row: Any) -> str:
    """Of one judged pair."""
    if row["outcome"] not in (*OUTCOMES, "unparsed"):
        raise ValueError(f"outcome {row['outcome']!r} is none of {', '.join(OUTCOMES)}, unparsed")
    return str(row["outcome"])


def _object(path: Path, what: str, form: str | None) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise PluralismError(f"{path} cannot be read as the {what}: {error}") from error
    if not isinstance(content, dict):
        raise PluralismError(f"{path} is no {what}: it holds no JSON object")
    if form is not None and content.get("format") != form:
        raise PluralismError(
            f'{path} is no {what}: its "format" is {content.get("format")!r}, and must be {form!r}'
        )
    return content


def _said(error: Exception) -> str:
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)
