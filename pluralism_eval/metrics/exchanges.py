"""What communities said and what the LLM made of it: the overton docs of a run, and what entails what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pluralism_eval.data.docs import chosen_nli
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.coverage import scoring, split_sentences
from pluralism_eval.metrics.entailment import (
    Pair,
    Scores,
    is_entailed,
    is_read,
    score_pairs,
    scorer_names,
)
from pluralism_eval.presets import Preset, get_preset
from pluralism_eval.results import Run
from pluralism_eval.tasks import OVERTON

TASK = OVERTON
METHODS = ("modular_pluralism", "moe")
"""Methods whose responses are written from messages."""


@dataclass(frozen=True)
class Exchange:
    """One doc: what the communities said, and the response."""

    situation: str
    """The query: docs with the same one are one cluster."""
    messages: tuple[tuple[str, str], ...]
    """(community, text) in pool order."""
    sentences: tuple[str, ...]
    """Of the response; empty if it has none."""
    cut: bool
    """True if passages were cut to fit the LLM: it has not seen all of the messages."""


@dataclass(frozen=True)
class Entailed:
    """What one doc's messages entail of a response."""

    communities: tuple[str, ...]
    """[n_messages]"""
    empty: tuple[bool, ...]
    """[n_messages]; an empty message entails nothing."""
    table: np.ndarray
    """[n_messages][n_sentences] of bool."""
    pairs: int
    """Of a message and a sentence that were scored."""
    unread: int
    """Of those, how many got no verdict."""


def check_method(run: Run, allowed: Sequence[str]) -> None:
    """Raises PluralismError unless ``run`` is of one of the ``allowed`` methods."""
    if run.config.get("pluralism", {}).get("method") not in allowed:
        raise PluralismError(
            f"{run.path}: a run of {run.name} does not hold the community messages that this needs. "
            f"Allowed: runs of {', '.join(allowed)}"
        )


def exchanges(run: Run, preset: str | None = None) -> list[Exchange]:
    """[n_docs] of the run's overton task, from its transcript.

    Args:
        preset: whose splitter cuts responses into sentences; None: the run's own.

    Raises:
        PluralismError: a method without messages, or no such task in the transcript.
    """
    check_method(run, METHODS)
    lines, pool = run.transcript_of(TASK), community_names(run)
    strange = {m["community"] for line in lines.values() for m in line["messages"]} - set(pool)
    if strange:
        raise PluralismError(
            f"{run.path}: the transcript has messages of {', '.join(sorted(strange))}, the run's pool is "
            f"{', '.join(pool)}; give the transcript that this run wrote"
        )
    splitter = chosen_preset(run, preset).splitter
    return [
        Exchange(
            str(line["query"]),
            tuple((m["community"], m["text"]) for m in line["messages"]),
            tuple(split_sentences(line["response"], splitter)),
            any(sent["tokens_cut"] > 0 for sent in line["sent"]),
        )
        for _, line in sorted(lines.items())
    ]


def community_names(run: Run) -> list[str]:
    """The run's pool, in its order."""
    return [str(entry["name"]) for entry in run.config["pluralism"]["communities"]]


def chosen_scorer(run: Run, nli: str | None, preset: str | None) -> str:
    """The one entailment scorer to use, checked but not loaded.

    Args:
        nli: as given; None: that of ``preset`` where one is given (``$PLURALISM_EVAL_NLI`` goes first), else
            the first scorer of the run, whose verdicts may be on disk already.

    Raises:
        PluralismError: several scorers, one that cannot be loaded, or a sentence splitter that is missing.
    """
    if nli is None and preset is None and run.samples.get(TASK):
        found = str(run.samples[TASK][0]["doc"]["pluralism"]["nli"])
        nli = scorer_names(found)[0]
    reading = chosen_preset(run, preset)
    names = scorer_names(nli or chosen_nli(None, reading))
    if len(names) > 1:
        raise PluralismError(
            f"--nli {nli!r} names {len(names)} scorers, one is used; give one of {', '.join(names)}"
        )
    return scoring(names[0], "one", reading)["nli"]


def chosen_preset(run: Run, preset: str | None) -> Preset:
    """``preset`` as given, else the run's own: its splitter cuts responses into sentences."""
    return get_preset(preset or str(run.config["pluralism"]["preset"]))


def pairs_of(messages: Sequence[tuple[str, str]], sentences: Sequence[str]) -> list[Pair]:
    """Every message that is not empty as premise, every sentence as hypothesis."""
    return [(text, s) for _, text in messages if text.strip() for s in sentences]


def read_table(
    messages: Sequence[tuple[str, str]],
    sentences: Sequence[str],
    scores: Mapping[Pair, Scores],
) -> Entailed:
    """What ``messages`` entail of ``sentences``, from the scores of :func:`pairs_of`."""
    empty = tuple(not text.strip() for _, text in messages)
    table = np.zeros((len(messages), len(sentences)), dtype=bool)
    for i, (_, text) in enumerate(messages):
        if not empty[i]:
            table[i] = [is_entailed(scores[text, s]) for s in sentences]
    pairs = pairs_of(messages, sentences)
    unread = sum(not is_read(scores[pair]) for pair in pairs)
    return Entailed(tuple(name for name, _ in messages), empty, table, len(pairs), unread)


def entailed(docs: Sequence[Exchange], scorer: str) -> list[Entailed]:
    """[n_docs] for each doc's own messages; one batch, verdicts kept on disk."""
    scores = score_pairs(scorer, [p for d in docs for p in pairs_of(d.messages, d.sentences)])
    return [read_table(d.messages, d.sentences, scores) for d in docs]
