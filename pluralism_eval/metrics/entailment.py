"""Natural language inference: does a premise entail a hypothesis?

A scorer is called by name, several are joined by ``+`` (``--metadata nli=vitaminc+wanli``):

- ``vitaminc``, ``wanli``, ``deberta``, any Hub id or folder: a three-way classifier, read by its own
  label map (:mod:`nli_classifier`); ``NAME:float32`` sets its number format
- ``llm:NAME`` or ``llm:NAME:key=value;key=value``: an LLM as judge (:mod:`nli_judge`)
- ``embedded``: the embedded LM's calibrated likelihoods (:mod:`nli_embedded`; weak, its measured
  accuracy is printed beside every coverage)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import numpy as np

from pluralism_eval import progress, ranks, utilisation
from pluralism_eval.cache import Store, cache_root, digest
from pluralism_eval.errors import PluralismError
from pluralism_eval.presets import PAPER_NLI, REFERENCE_NLI, WANLI

log = logging.getLogger(__name__)
LABELS = ("entailment", "neutral", "contradiction")
ENTAILMENT = 0
ALIASES = {
    "vitaminc": PAPER_NLI,
    "wanli": WANLI,
    "deberta": REFERENCE_NLI,
}
JUDGE = "llm:"
Pair = tuple[str, str]
"""(premise, hypothesis)"""
Scores = tuple[float, float, float]
"""Probabilities in the order of :data:`LABELS`; all NaN where the verdict could not be read."""


class Scorer(Protocol):
    """Anything that gives label probabilities."""

    identity: str
    """What its scores depend on."""
    lot: int
    """Pairs handed over together; their scores are on disk before the next lot begins."""

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        """[n_pairs][3] in the order of :data:`LABELS`, rows summing to 1 or all NaN (unread)."""
        ...

    def truncated(self, pairs: Sequence[Pair]) -> int:
        """How many of ``pairs`` are longer than it reads, so that their ends are cut."""
        ...


def scorer_names(nli: str) -> list[str]:
    """The scorers that ``nli`` joins by ``+``, aliases written out; not checked."""
    parts = [nli] if Path(nli).is_dir() else nli.split("+")
    return [_written_out(part.strip()) for part in parts]


def _written_out(name: str) -> str:
    alias, colon, rest = name.partition(":")
    return ALIASES[alias] + colon + rest if alias in ALIASES else name


def scorer_problems(names: Sequence[str]) -> list[str]:
    """What keeps ``names`` from being loaded, without loading weights; empty if nothing does."""
    problems = []
    for name in dict.fromkeys(names):
        if not name:
            problems.append("an empty scorer name; write nli=NAME, or nli=NAME+NAME for several")
            continue
        if names.count(name) > 1:
            problems.append(f"scorer {name!r} is named twice; name it once")
        try:
            _check(name)
        except PluralismError as error:
            problems.append(str(error))
    return problems


def _check(name: str) -> None:
    if name.startswith(JUDGE):
        from pluralism_eval.metrics.nli_judge import check_judge

        check_judge(name)
    elif name != "embedded":
        from pluralism_eval.metrics.nli_classifier import check_classifier

        check_classifier(name)


@lru_cache(maxsize=2)
def load_scorer(name: str) -> Scorer:
    """The scorer called ``name`` (written out), loaded once a process."""
    if name == "embedded":
        from pluralism_eval.metrics.nli_embedded import EmbeddedScorer

        return EmbeddedScorer()
    if name.startswith(JUDGE):
        from pluralism_eval.metrics.nli_judge import JudgeScorer

        return JudgeScorer(name)
    from pluralism_eval.metrics.nli_classifier import ClassifierScorer

    return ClassifierScorer(name)


@ranks.together()
@utilisation.phase("entailment")
def score_pairs(name: str, pairs: Sequence[Pair]) -> dict[Pair, Scores]:
    """Label probabilities of every distinct pair; each is computed once and kept on disk.

    Warns once a call of pairs that had to be cut, and of verdicts that could not be read (NaN).
    """
    unique = list(dict.fromkeys(pairs))
    if not unique:
        return {}
    scorer = load_scorer(name)
    store = Store(cache_root() / "nli.sqlite", "nli")
    keys = {pair: digest([scorer.identity, *pair]) for pair in unique}
    known = ranks.agree(store.get(list(keys.values())))
    order = getattr(scorer, "order", lambda pair: -len(pair[0]) - len(pair[1]))
    todo = sorted((p for p in unique if keys[p] not in known), key=order)
    if hasattr(scorer, "prepare"):
        scorer.prepare(todo)
    lots = [todo[start : start + scorer.lot] for start in range(0, len(todo), scorer.lot)]
    silent = not todo or not ranks.is_first()
    with progress.bar(len(todo), "entailment", "pair", silent) as bar:

        def keep(lot: list[Pair], found: np.ndarray) -> dict[str, list[float]]:
            rows = {keys[p]: [float(v) for v in row] for p, row in zip(lot, found, strict=True)}
            store.put(rows)
            bar.update(len(lot))
            return rows

        used = getattr(scorer, "usage", None)
        for rows in ranks.by_turns(lots, scorer.probabilities, used, read=keep):
            known |= rows
    scores: dict[Pair, Scores] = {pair: tuple(known[key]) for pair, key in keys.items()}
    _warn(
        name, scorer.truncated(unique), "longer than the scorer reads: their ends were cut", unique
    )
    unread = sum(not is_read(row) for row in scores.values())
    _warn(name, unread, "without a readable verdict: they count as not entailed", unique)
    return scores


def _warn(name: str, n: int, what: str, pairs: Sequence[Pair]) -> None:
    if n:
        log.warning("nli=%s: %d of %d pairs are %s", name, n, len(pairs), what)


def is_read(row: Sequence[float]) -> bool:
    """False where the scorer gave no verdict."""
    return not np.isnan(row).any()


def is_entailed(row: Sequence[float]) -> bool:
    """True if entailment is the most probable label; never where there is no verdict."""
    return is_read(row) and int(np.argmax(row)) == ENTAILMENT


def read_pairs(file: str) -> list[tuple[Pair, int]]:
    """Hand-written pairs of the package: [(pair, label index)]."""
    text = (files("pluralism_eval.data") / "sample" / file).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    return [((row["premise"], row["hypothesis"]), LABELS.index(row["label"])) for row in rows]


def check_accuracy(name: str) -> tuple[float, int]:
    """(three-way accuracy of the scorer on the package's check set, number of pairs).

    A verdict that could not be read is wrong.
    """
    gold = read_pairs("nli_check.jsonl")
    scores = score_pairs(name, [pair for pair, _ in gold])
    right = [
        is_read(scores[pair]) and int(np.argmax(scores[pair])) == label for pair, label in gold
    ]
    return float(np.mean(right)), len(gold)
