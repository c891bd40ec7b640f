"""Scores once more, from raw responses, by the functions that scored the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from pluralism_eval.leaderboard.samples import Row
from pluralism_eval.metrics import coverage
from pluralism_eval.metrics.entailment import scorer_names
from pluralism_eval.presets import Preset, get_preset
from pluralism_eval.tasks import TASKS
from pluralism_eval.tasks.items import VK_LABELS, distribution_of

TOLERANCE = 1e-6
"""Absolute and relative; other versions of NumPy may round otherwise."""
_ERRORS = (
    KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError,
)  # fmt: skip


def rescored(task: str, rows: Sequence[Row]) -> tuple[list[dict[str, Any]], list[str]]:
    """([n_docs] samples with every score of ``task`` as if just answered, problems).

    A row that cannot be scored, or whose own logged score is another one, is a problem that names it.

    Args:
        task: short name.
        rows: see :func:`pluralism_eval.leaderboard.samples.kept`.
    """
    found, problems = [], []
    for row in rows:
        where = f"doc {row['doc_id']} (id {str(row['doc'].get('id'))[:60]})"
        try:
            own = scores_of_row(task, row)
        except _ERRORS as error:
            named = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"{where} cannot be scored: {named[:300]}")
            continue
        found.append({"doc_id": row["doc_id"], "doc": row["doc"], **own})
        problems += [f"{where}: {p}" for p in differences(own, row, TASKS[task].logged)]
    return found, problems


def differences(own: Mapping[str, Any], logged: Mapping[str, Any], names: Any) -> list[str]:
    """Scores of one doc that are logged otherwise than its responses give them."""
    return [
        f"{name} is {shown(own[name])} from its responses, logged {shown(logged.get(name))}"
        for name in names
        if not same(own[name], logged.get(name))
    ]


def scores_of_row(task: str, row: Row) -> dict[str, Any]:
    """Every score of one doc.

    Raises:
        ValueError, KeyError, TypeError, ...: a doc or a response that is not sound.
    """
    doc = row["doc"]
    preset = get_preset(str(doc["pluralism"]["preset"]))
    if TASKS[task].is_text:
        _check_overton(doc, row, preset)
        return TASKS[task].score(doc, [row["verdict"]])
    _check_options(task, doc)
    return TASKS[task].score(doc, _read_options(row["resps"], len(doc["letters"])))


def _read_options(resps: Any, n: int) -> list[tuple[Any, ...]]:
    """[n_options] of (log-probability, greedy), or with (least probability, samples) after them."""
    if len(resps) != n:
        raise ValueError(f"{len(resps)} responses for {n} options")
    found = []
    for response in resps:
        logprob, greedy, *more = response[0]
        value = float(logprob)
        if math.isnan(value) or value > TOLERANCE:
            raise ValueError(f"log-probability {logprob!r} must be 0 or less")
        inexact = [float(number) for number in more]
        if inexact and not (len(inexact) >= 2 and 0 <= inexact[0] <= 1 and 0 <= inexact[1] < 1e9):
            raise ValueError(f"bounds {more!r} are no (least probability, samples)")
        found.append((value, str(greedy) == "True", *inexact))
    return found


def _check_options(task: str, doc: Mapping[str, Any]) -> None:
    letters, labels = doc["letters"], doc["options"]
    if len(letters) != len(labels) or not 1 <= len(letters) <= 26:
        raise ValueError(f"{len(labels)} options and {len(letters)} letters")
    if TASKS[task].labelled:
        if list(letters) != list(VK_LABELS) or doc["target"] not in range(len(VK_LABELS)):
            raise ValueError(f"target {doc['target']!r} of the letters {letters}")
        return
    gold = doc["gold"]
    if len(gold) != len(letters) or not same(distribution_of(gold, "gold"), gold):
        raise ValueError(f"gold {gold} is no distribution over {len(letters)} options")
    if doc["target"] != gold.index(max(gold)):
        raise ValueError(f"target {doc['target']!r} is not the likeliest option of gold {gold}")
    others = doc.get("others") or []
    if others and (len(others) != len(letters) or not same(distribution_of(others, "others"), others)):  # fmt: skip
        raise ValueError(f"others {others} is no distribution over {len(letters)} options")


def _check_overton(doc: Mapping[str, Any], row: Row, preset: Preset) -> None:
    """Are the verdicts about this response, complete, and free of contradictions?"""
    verdict, n = row["verdict"], len(doc["explanations"])
    response, names = row["resps"][0][0], scorer_names(doc["pluralism"]["nli"])
    if not n or len(doc["values"]) != n:
        raise ValueError(f"{len(doc['values'])} values and {n} explanations")
    if not isinstance(response, str) or verdict["response"] != response:
        raise ValueError("the verdicts are about another response than the one in resps")
    if [reading["nli"] for reading in verdict["scorers"]] != names or verdict["nli"] != names[0]:
        raise ValueError(f"the verdicts are not of the scorers {names}")
    if not 0 <= verdict["nli_check"][0] <= 1:
        raise ValueError(f"check accuracy {verdict['nli_check']!r}")
    if sentences_countable(preset):
        expected = len(coverage.split_sentences(response, preset.splitter))
        if verdict["n_sentences"] != expected:
            raise ValueError(
                f"the response has {expected} sentences, its verdicts are about {verdict['n_sentences']}"
            )
    readings = [(verdict["n_sentences"], r) for r in verdict["scorers"]]
    readings += [(verdict["n_sentences"], r["reversed"]) for r in verdict["scorers"] if r["reversed"]]  # fmt: skip
    for sentences, reading in [*readings, (None, verdict["echo"])]:
        _check_reading(reading, n, sentences)


def sentences_countable(preset: Preset) -> bool:
    """False where the library that cuts sentences is not installed."""
    return preset.splitter == "sentencex" or find_spec("sentence_splitter") is not None


def _check_reading(reading: Mapping[str, Any], n: int, sentences: int | None) -> None:
    covered, entailment = reading["covered"], reading["entailment"]
    if len(covered) != n or len(entailment) != n:
        raise ValueError(f"{len(covered)} verdicts and {len(entailment)} probabilities, {n} values")
    if sentences is not None and reading["pairs"] != n * sentences:
        raise ValueError(f"{reading['pairs']} pairs of {sentences} sentences and {n} values")
    if not 0 <= reading["unread"] <= reading["pairs"]:
        raise ValueError(f"{reading['unread']} unread of {reading['pairs']} pairs")
    for i, (yes, probability) in enumerate(zip(covered, entailment, strict=True)):
        # the likeliest of three labels has at least 1/3; a label above 1/2 is the likeliest
        if not isinstance(yes, bool) or not -1 <= probability <= 1:
            raise ValueError(f"value {i}: verdict {yes!r} at entailment {probability!r}")
        if (yes and probability < 1 / 3 - TOLERANCE) or (not yes and probability > 0.5 + TOLERANCE):
            raise ValueError(
                f"value {i}: verdict {yes} contradicts its entailment probability {probability:.4f}"
            )


def verdict_problems(rows: Sequence[Row], nli: str | None) -> list[str]:
    """Verdicts that the scorer does not give when it reads the responses again.

    Args:
        nli: the scorers, where they are not to be those that the samples name.

    Raises:
        PluralismError: scorers that cannot be loaded.
    """
    docs = [dict(row["doc"]) for row in rows]
    for doc in docs:
        if nli:
            doc["pluralism"] = doc["pluralism"] | {"nli": nli}
    responses = [row["resps"][0][0] for row in rows]
    found = []
    for row, fresh in zip(rows, coverage.CoverageFilter().apply(responses, docs), strict=True):
        readings = zip(fresh["scorers"], row["verdict"]["scorers"], strict=False)
        pairs = [*readings, (fresh["echo"], row["verdict"]["echo"])]
        for own, logged in pairs:
            for i, (a, b) in enumerate(zip(own["covered"], logged["covered"], strict=True)):
                if a != b:
                    found.append(
                        f"doc {row['doc_id']} (id {row['doc']['id']}), value {i} ({row['doc']['values'][i]}): "
                        f"{own.get('nli', 'the query itself')}: covered {a} by the scorer, {b} recorded"
                    )
    return found


def same(a: Any, b: Any) -> bool:
    """Equal up to rounding, at any depth; NaN, null and what is missing are one."""
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if _nothing(a) or _nothing(b):
        return _nothing(a) and _nothing(b)
    if _number(a) and _number(b):
        return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(a == b)


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(value: Any) -> str:
    """A value in a line about a difference."""
    if _nothing(value):
        return "nothing"
    text = f"{value:.10g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
