"""Message faithfulness (section 5, Figure 5): how much of a response comes from the communities?

Of the paper: the premise is a community LM's comment, the hypothesis a sentence of the response.
A comment is *covered* if it entails at least one sentence; a sentence is *new content* if no
comment entails it. Figure 5 gives the share of covered comments per community (40 to 60 %, 51.2 %
on average) and the share of new sentences (20 to 40 %, 33.8 % on average).

Our reading, where the paper is silent:

- the premise is the whole message, not one of its sentences; entailed means that entailment is the
  likeliest of the three labels, as in value coverage; sentences are cut by the preset's splitter
- the messages of a doc with an empty response are not covered, since nothing reflects them; such a
  doc has no sentence and no part in new content
- an empty message is no comment: it is counted, and is in no share
- "20 to 40 % of sentences" is over the sentences of all responses; the mean over responses, and the
  share of responses with any new sentence, stand beside it
- a verdict that cannot be read entails nothing (so it lowers coverage and raises new content)

*Shuffled* is what the same figures come to with another doc's messages, which the response cannot
have used: the part of entailment that is chance, common topics, or the scorer's habit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pluralism_eval.metrics.entailment import check_accuracy, score_pairs
from pluralism_eval.metrics.exchanges import Entailed, Exchange, pairs_of, read_table
from pluralism_eval.metrics.statistics import Comparison, compare, mean_interval


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] with its 95 % interval, clustered by situation."""

    value: float
    """NaN if ``n`` is 0."""
    low: float
    """NaN with fewer than two situations."""
    high: float
    n: int
    """Of what it is a share: messages, sentences or responses."""


@dataclass(frozen=True)
class Coverage:
    """Of one community's messages, or of all."""

    covered: Share
    """Of its messages that are not empty, those that entail some sentence of the response."""
    shuffled: Share
    """The same against the response to another situation."""
    empty: int


@dataclass(frozen=True)
class Content:
    """Sentences that no message entails."""

    sentences: Share
    """Over the sentences of all responses (Figure 5)."""
    by_response: Share
    """Mean over responses of their own share."""
    responses: Share
    """Responses with at least one such sentence."""


@dataclass(frozen=True)
class Faithfulness:
    """Figure 5 of one run."""

    scorer: str
    scorer_accuracy: float
    """Three-way, on the package's check set; a guess is 1/3."""
    scorer_checked: int
    """Pairs of the check set."""
    docs: int
    situations: int
    empty_responses: int
    """Without a sentence."""
    docs_cut: int
    """With passages cut to fit the LLM."""
    pairs: int
    unread: int
    """Pairs without a verdict, of ``pairs``; the shuffled ones are not among them."""
    shuffled_pairs: int
    shuffled_unread: int
    unpaired: int
    """Docs without another situation to take messages from; 0, or all."""
    communities: dict[str, Coverage]
    all_messages: Coverage
    new_content: Content
    new_content_shuffled: Content
    above_shuffled: Comparison | None
    """Per doc, the share of covered messages minus the shuffled one; None without shuffled docs."""


def strangers(docs: Sequence[Exchange], seed: int = 0) -> list[int | None]:
    """[n_docs] index of a doc about another situation, in a seeded random cycle; None if all are alike."""
    n = len(docs)
    cycle = [int(i) for i in np.random.default_rng(seed).permutation(n)]
    found: list[int | None] = [None] * n
    for place, i in enumerate(cycle):
        later = (cycle[(place + step) % n] for step in range(1, n))
        found[i] = next((j for j in later if docs[j].situation != docs[i].situation), None)
    return found


def faithfulness(
    docs: Sequence[Exchange], communities: Sequence[str], scorer: str, seed: int = 0
) -> Faithfulness:
    """Figure 5 over ``docs``. One batch of distinct pairs; verdicts are kept on disk.

    Args:
        communities: the pool; one without a message in ``docs`` has shares of 0 messages.
        scorer: name of an entailment scorer (:mod:`pluralism_eval.metrics.entailment`).
        seed: of the shuffled assignment.
    """
    partner = strangers(docs, seed)
    other = [docs[j].messages if j is not None else () for j in partner]
    wanted = [pair for d in docs for pair in pairs_of(d.messages, d.sentences)]
    wanted += [p for d, ms in zip(docs, other, strict=True) for p in pairs_of(ms, d.sentences)]
    scores = score_pairs(scorer, wanted)
    own = [read_table(d.messages, d.sentences, scores) for d in docs]
    shuffled = [read_table(ms, d.sentences, scores) for d, ms in zip(docs, other, strict=True)]
    accuracy, checked = check_accuracy(scorer)
    situations = [d.situation for d in docs]
    paired = [i for i, j in enumerate(partner) if j is not None]
    return Faithfulness(
        scorer, accuracy, checked, len(docs), len(set(situations)),
        empty_responses=sum(not d.sentences for d in docs),
        docs_cut=sum(d.cut for d in docs),
        pairs=sum(e.pairs for e in own),
        unread=sum(e.unread for e in own),
        shuffled_pairs=sum(e.pairs for e in shuffled),
        shuffled_unread=sum(e.unread for e in shuffled),
        unpaired=len(docs) - len(paired),
        communities={name: _coverage(own, shuffled, situations, name) for name in communities},
        all_messages=_coverage(own, shuffled, situations, None),
        new_content=_content(own, situations),
        new_content_shuffled=_content([shuffled[i] for i in paired], [situations[i] for i in paired]),
        above_shuffled=_above(own, shuffled, situations),
    )  # fmt: skip


def _coverage(
    own: Sequence[Entailed], shuffled: Sequence[Entailed], situations: Sequence[str], name: str | None
) -> Coverage:  # fmt: skip
    """Of the community ``name``; of all if None."""
    empty = sum(
        e and name in (None, community)
        for doc in own
        for community, e in zip(doc.communities, doc.empty, strict=True)
    )
    return Coverage(_covered(own, situations, name), _covered(shuffled, situations, name), empty)


def _covered(docs: Sequence[Entailed], situations: Sequence[str], name: str | None) -> Share:
    flags, clusters = [], []
    for doc, situation in zip(docs, situations, strict=True):
        for i, community in enumerate(doc.communities):
            if not doc.empty[i] and name in (None, community):
                flags.append(bool(doc.table[i].any()))
                clusters.append(situation)
    return share(flags, clusters)


def _content(docs: Sequence[Entailed], situations: Sequence[str]) -> Content:
    """New content of the docs whose response has a sentence."""
    new, sentences, clusters = [], [], []
    for doc, situation in zip(docs, situations, strict=True):
        if doc.table.shape[1]:
            new.append(np.logical_not(doc.table.any(axis=0)))
            sentences += [situation] * doc.table.shape[1]
            clusters.append(situation)
    return Content(
        share([flag for flags in new for flag in flags], sentences),
        share([float(flags.mean()) for flags in new], clusters),
        share([bool(flags.any()) for flags in new], clusters),
    )


def _above(
    own: Sequence[Entailed], shuffled: Sequence[Entailed], situations: Sequence[str]
) -> Comparison | None:
    """Do responses reflect their own messages more than others'? Docs that have both."""
    rows = []
    for mine, theirs, situation in zip(own, shuffled, situations, strict=True):
        kept = [[t for t, e in zip(d.table, d.empty, strict=True) if not e] for d in (mine, theirs)]
        if all(kept):
            first, second = (float(np.mean([t.any() for t in tables])) for tables in kept)
            rows.append((first, second, situation))
    if not rows:
        return None
    return compare([a for a, _, _ in rows], [b for _, b, _ in rows], [s for _, _, s in rows])


def share(values: Sequence[float], clusters: Sequence[str]) -> Share:
    """Mean of numbers in [0, 1] and its clustered interval; NaN of none."""
    if not values:
        return Share(math.nan, math.nan, math.nan, 0)
    low, high = mean_interval([float(v) for v in values], clusters)
    return Share(float(np.mean(values)), low, high, len(values))
