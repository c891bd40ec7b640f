"""Are the docs of samples those of the real input, and which of them? What baselines score on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard.inputs import Input, docs_of
from pluralism_eval.leaderboard.pins import META, Pinned, hash_of
from pluralism_eval.leaderboard.recompute import same, shown
from pluralism_eval.metrics.judge import seeded_sample
from pluralism_eval.presets import get_preset
from pluralism_eval.scoring import metrics_of
from pluralism_eval.tasks import TASKS

DRAW_SEED = 0
"""Of the one draw that a partial run may take: who could choose the seed could choose the docs."""
_SHOWN = 20
_OTHER_HASH = "it is not that item of the input file, by the hash that ships with this package"
Doc = Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """Docs of samples, held against the real input."""

    problems: tuple[str, ...]
    of: int = 0
    """Docs in the input; 0: it cannot be said."""
    which: str = ""
    """``all``, ``the first 12``, or ``12 drawn with seed 0``."""
    docs: tuple[Doc, ...] = field(default=(), repr=False)
    """Those of the real input that were answered; empty with problems."""


def compare(task: str, real: Input | Pinned, dropped: bool, rows: Sequence[Mapping[str, Any]]) -> Compared:  # fmt: skip
    """Holds every doc of ``rows`` against the item of its number: golds, questions, options, groups.

    Args:
        task: short name.
        real: the input file, or the hashes of its items.
        dropped: without damaged items (``data=cleaned``).
    """
    try:
        settings = _settings(task, rows[0]["doc"]["pluralism"])
    except (KeyError, TypeError, AttributeError, ValueError, PluralismError) as error:
        return Compared((f"the docs do not say how they were read: {type(error).__name__} {error}",))  # fmt: skip
    if isinstance(real, Pinned):
        hashes = real.hashes(dropped)
        of, name = len(hashes), f"{TASKS[task].input}.json"
        known: Sequence[Doc] | None = None
    else:
        known = docs_of(task, real, settings)
        of, name = len(known), real.path.name

    def differences(i: int, doc: Doc) -> list[str]:
        if known is not None:
            return _differences(known[i], doc)
        return [] if hash_of(doc) == hashes[i] else [_OTHER_HASH]

    problems = _problems(rows, settings, of, name, differences)
    which = which_docs([int(row["doc_id"]) for row in rows], of)
    if which is None:
        problems.append(_unknown_choice(rows, of))
    if problems:
        more = len(problems) - _SHOWN
        kept = problems if more <= 0 else [*problems[:_SHOWN], f"... and {more} more"]
        return Compared(tuple(kept), of)
    own = tuple(row["doc"] if known is None else known[int(row["doc_id"])] for row in rows)
    return Compared((), of, which or "", own)


def _settings(task: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """How docs with ``meta`` must say that they were read; preset and orders are the run's own choice."""
    given = meta["orders_given"]
    preset = get_preset(str(meta["preset"]))
    default = preset.moralchoice_orders if task == "moralchoice" else 1
    return {
        "task": task,
        "input": TASKS[task].input,
        "preset": meta["preset"],
        "orders_given": given,
        "orders": given or default,
    }


def _problems(
    rows: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    of: int,
    name: str,
    differences: Callable[[int, Doc], list[str]],
) -> list[str]:
    found: list[str] = []
    for row in rows:
        number, doc = int(row["doc_id"]), row["doc"]
        if not 0 <= number < of:
            found.append(f"doc {number}: {name} has {of} docs")
            continue
        own = doc.get("pluralism")
        own = own if isinstance(own, dict) else {}
        wrong = [
            f"pluralism.{key} is {shown(own.get(key))}, expected {shown(value)}"
            for key, value in settings.items()
            if not same(own.get(key), value)
        ]
        found += [f"doc {number} (id {shown(doc.get('id'))}): {d}" for d in [*differences(number, doc), *wrong]]  # fmt: skip
    return found


def _differences(expected: Doc, found: Doc) -> list[str]:
    told, own = expected["pluralism"], found.get("pluralism")
    own = own if isinstance(own, dict) else {}
    names = [name for name in (*expected, *found) if name != "pluralism"]
    pairs = {name: (expected.get(name), found.get(name)) for name in names}
    pairs |= {f"pluralism.{name}": (told[name], own.get(name)) for name in META}
    return [
        f"{name} is {shown(a)} in the input file, {shown(b)} in the sample"
        for name, (a, b) in pairs.items()
        if not same(a, b)
    ]


# ---------------------------------------------------------------------- which docs


def which_docs(numbers: Sequence[int], of: int) -> str | None:
    """``all``, ``the first n``, ``n drawn with seed 0``; None: chosen in a way that nobody can check."""
    n = len(numbers)
    if list(numbers) == list(range(n)):
        return "all" if n == of else f"the first {n:,}"
    if n <= of and sorted(numbers) == drawn(of, n):
        return f"{n:,} drawn with seed {DRAW_SEED}"
    return None


def drawn(of: int, n: int) -> list[int]:
    """Numbers of the ``n`` docs that the one seeded draw takes of ``of``, in order."""
    return sorted(seeded_sample(range(of), lambda number: [str(number)], n, DRAW_SEED))


def _unknown_choice(rows: Sequence[Mapping[str, Any]], of: int) -> str:
    expected = drawn(of, min(len(rows), of))
    own = [int(row["doc_id"]) for row in rows]
    i = next((i for i, number in enumerate(own) if number != i), 0)
    return (
        f"which docs: a partial run is the first {len(rows)} (--limit) or the draw with seed {DRAW_SEED} (pluralism-eval data "
        f"draw), so that nobody chooses them by their scores; found doc {own[i]} in place {i}, the draw has doc {expected[min(i, len(expected) - 1)]} there"
    )  # fmt: skip


# ---------------------------------------------------------------------- baselines


def baselines(task: str, docs: Sequence[Doc]) -> dict[str, tuple[float, int]]:
    """Score → (value, docs that count) of constant and human answers to ``docs``: no response goes into them.

    Coverage has none: the echo of a query is read by a scorer.
    """
    if TASKS[task].is_text:
        return {}
    uniform = [[(-math.log(len(doc["letters"])), False)] * len(doc["letters"]) for doc in docs]
    scored = [TASKS[task].score(doc, answer) for doc, answer in zip(docs, uniform, strict=True)]
    found = {}
    for metric in metrics_of(task):
        if metric.baseline:
            items = [scores[metric.name] for scores in scored]
            numbers = metric.summary.numbers(items)
            if numbers is None:
                found[metric.name] = float(metric.summary(items)), len(items)
            else:
                values = [value for _, value in numbers]
                found[metric.name] = fmean(values) if values else math.nan, len(values)
    return found
