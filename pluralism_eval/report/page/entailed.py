"""Which message entails which sentence of a response, and which sentence covers which value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.json_files import python_value
from pluralism_eval.metrics import exchanges as said
from pluralism_eval.metrics.coverage import pairs_of, split_sentences
from pluralism_eval.metrics.entailment import Pair, is_entailed, is_read, score_pairs
from pluralism_eval.presets import get_preset
from pluralism_eval.results import Run

TASK = said.TASK


@dataclass(frozen=True)
class Entailed:
    """What is entailed around one overton response."""

    scorer: str
    sentences: tuple[str, ...]
    """[n_sentences] of the response; empty if it has none."""
    communities: tuple[str, ...]
    """[n_messages]; empty for methods that write without messages."""
    by_message: tuple[tuple[bool, ...], ...]
    """[n_messages][n_sentences]: the message is the premise. All False for an empty message."""
    covers: tuple[tuple[bool, ...], ...]
    """[n_sentences][n_values]: does the sentence cover the explanation of the value? Premise and
    hypothesis as the run's preset has them."""
    unread: int
    """Pairs without a readable verdict; they entail nothing."""


def entailed(run: Run, scorer: str) -> dict[str, dict[int, Entailed]]:
    """Task → doc_id → what is entailed; {} for a run without overton samples.

    All pairs are scored in one batch, with a progress bar; verdicts are kept on disk, so that those
    of the run's own scorer cost nothing again.

    Args:
        scorer: name of one entailment scorer (:mod:`pluralism_eval.metrics.entailment`).

    Raises:
        PluralismError: samples that are not of this task, or a transcript of another run.
    """
    samples = run.samples.get(TASK)
    if not samples:
        return {}
    messages = _messages(run)
    wanted: list[Pair] = []
    parts = []
    for sample in samples:
        doc = sample["doc"]
        preset = get_preset(doc["pluralism"]["preset"])
        sentences = tuple(split_sentences(verdict_of(sample)["response"], preset.splitter))
        values = [pairs_of(sentences, e, preset.nli_premise) for e in doc["explanations"]]
        own = messages.get(int(sample["doc_id"]), ())
        parts.append((int(sample["doc_id"]), sentences, values, own))
        wanted += [pair for pairs in values for pair in pairs]
        wanted += said.pairs_of(own, sentences)
    scores = score_pairs(scorer, wanted)
    found = {}
    for doc_id, sentences, values, own in parts:
        table = said.read_table(own, sentences, scores)
        unread = sum(not is_read(scores[pair]) for pairs in values for pair in pairs)
        found[doc_id] = Entailed(
            scorer,
            sentences,
            table.communities,
            tuple(tuple(bool(v) for v in row) for row in table.table),
            tuple(
                tuple(is_entailed(scores[pairs[i]]) for pairs in values)
                for i in range(len(sentences))
            ),
            table.unread + unread,
        )
    return {TASK: found}


def _messages(run: Run) -> dict[int, tuple[tuple[str, str], ...]]:
    """doc_id → (community, text) of each message; {} for methods without, or without a transcript."""
    if run.ours.get("method") not in said.METHODS or not run.transcript:
        return {}
    docs = said.exchanges(run)
    return dict(zip(sorted(run.transcript_of(TASK)), (doc.messages for doc in docs), strict=True))


def verdict_of(sample: Mapping[str, Any]) -> dict[str, Any]:
    """What :class:`pluralism_eval.metrics.coverage.CoverageFilter` found, back from lm-eval's text.

    Raises:
        PluralismError: a sample without such a verdict.
    """
    found: Any = sample["filtered_resps"][0] if sample["filtered_resps"] else None
    if isinstance(found, str):
        try:
            found = python_value(found)
        except ValueError:
            found = None
    if not isinstance(found, dict) or "response" not in found:
        raise PluralismError(
            f"the sample of doc {sample['doc_id']} holds no verdict of value coverage; give the samples that "
            f"lm-eval logged of {TASK}"
        )
    return found
