"""What a study found: rates, how far people agree with each other, and with a judge."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from pluralism_eval.metrics.statistics import bootstrap_interval, mean_interval
from pluralism_eval.people.exports import OUTCOMES, Answer, Export, Key

PAPER_KAPPA = 0.4678
"""Of the paper's five annotators over 100 pairs (section 4)."""
NAN = math.nan


@dataclass(frozen=True)
class Estimate:
    """A number over pairs, its 95 % interval (bootstrap over whole pairs), and how many pairs."""

    value: float
    low: float
    high: float
    n_pairs: int
    why_nan: str = ""
    """Why ``value`` is NaN; "" if it is not."""


@dataclass(frozen=True)
class Sides:
    """Do people prefer a side, whatever stands there?"""

    first: int
    """Answers for the response shown first."""
    decided: int
    """Answers that are no tie."""
    p_value: float
    """Exact binomial test against one half, two-sided; NaN without a decided answer."""
    run_first: float
    """Share of all answers whose pair showed the run's response first."""


@dataclass(frozen=True)
class WithJudge:
    """The majority of the people against a judge, over pairs that both have."""

    agreement: Estimate
    """Share of pairs with the same outcome."""
    kappa: Estimate
    """Cohen's kappa."""
    unparsed: int
    """Pairs of the study left out because the judge's verdict could not be read."""
    missing: int
    """Pairs of the study that the judge did not see."""


def rates(answers: Sequence[Answer]) -> dict[str, float]:
    """Share of each outcome; they sum to 1."""
    return {o: fmean(float(a.outcome == o) for a in answers) for o in OUTCOMES}


def mean_rates(exports: Sequence[Export]) -> dict[str, Estimate]:
    """Share of each outcome among all answers of all annotators."""
    rows = [(pair, a.outcome) for export in exports for pair, a in export.answers.items()]
    clusters = [pair for pair, _ in rows]
    return {o: _mean([float(found == o) for _, found in rows], clusters) for o in OUTCOMES}


def majority(exports: Sequence[Export], key: Key) -> dict[str, str | None]:
    """Pair id → the outcome with the most votes; None where two or more have the most.

    Pairs without any answer are absent.
    """
    found: dict[str, str | None] = {}
    for pair in key.pairs:
        votes = Counter(e.answers[pair].outcome for e in exports if pair in e.answers)
        top = votes.most_common(2)
        if top:
            found[pair] = None if len(top) > 1 and top[0][1] == top[1][1] else top[0][0]
    return found


def majority_rates(votes: Mapping[str, str | None]) -> dict[str, Estimate]:
    """Share of pairs won, tied and lost by :func:`majority`; an undecided pair is a tie."""
    decided = [outcome or "tie" for outcome in votes.values()]
    return {o: _mean([float(found == o) for found in decided]) for o in OUTCOMES}


def fleiss(exports: Sequence[Export], key: Key) -> Estimate:
    """Fleiss' kappa over the pairs that all annotators answered (statsmodels).

    (P - P_e) / (1 - P_e), P the mean share of agreeing pairs of annotators, P_e that by chance. NaN
    for fewer than two annotators or pairs, and where all answers are one outcome (0 / 0).
    """
    shared = [pair for pair in key.pairs if all(pair in e.answers for e in exports)]
    table = [[OUTCOMES.index(e.answers[pair].outcome) for e in exports] for pair in shared]
    if len(exports) < 2:
        return Estimate(NAN, NAN, NAN, len(shared), "it takes two annotators")
    if len(shared) < 2:
        return Estimate(NAN, NAN, NAN, len(shared), "it takes two pairs that all answered")
    return _kappa(table, fleiss_kappa, "all answers are the same outcome")


def fleiss_kappa(table: Sequence[Sequence[int]]) -> float:
    """Fleiss' kappa of [n_pairs][n_annotators] indices of outcomes; NaN if all are one outcome."""
    from statsmodels.stats import inter_rater

    counts, _ = inter_rater.aggregate_raters(np.asarray(table), n_cat=len(OUTCOMES))
    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return NAN
    return float(inter_rater.fleiss_kappa(counts))


def sides(exports: Sequence[Export]) -> Sides:
    """Which side was chosen, over all annotators."""
    answers = [a for export in exports for a in export.answers.values()]
    decided = [a.first for a in answers if a.first is not None]
    from scipy.stats import binomtest

    p_value = float(binomtest(sum(decided), len(decided)).pvalue) if decided else NAN
    return Sides(sum(decided), len(decided), p_value, fmean(float(a.run_first) for a in answers))


def median_seconds(exports: Sequence[Export]) -> float:
    """Median time on the screen of an answered pair."""
    return median(a.seconds for export in exports for a in export.answers.values())


def with_judge(votes: Mapping[str, str | None], key: Key, verdicts: Mapping[str, str]) -> WithJudge:
    """Majority votes (an undecided pair is a tie) against a judge's verdicts by doc id.

    Cohen's kappa is scikit-learn's; NaN without a pair, and where both give one same outcome (0 / 0).
    """
    docs = {pair: key.pairs[pair].doc for pair in votes}
    unparsed = sum(verdicts.get(doc) == "unparsed" for doc in docs.values())
    missing = sum(doc not in verdicts for doc in docs.values())
    both = [
        (OUTCOMES.index(votes[pair] or "tie"), OUTCOMES.index(verdicts[doc]))
        for pair, doc in docs.items()
        if verdicts.get(doc) in OUTCOMES
    ]
    if not both:
        nothing = Estimate(NAN, NAN, NAN, 0, "no pair has both")
        return WithJudge(nothing, nothing, unparsed, missing)
    return WithJudge(
        _mean([float(people == judge) for people, judge in both]),
        _kappa(both, cohen_kappa, "people and judge always give one same outcome", 500),
        unparsed,
        missing,
    )


def cohen_kappa(pairs: Sequence[Sequence[int]]) -> float:
    """Cohen's kappa of [n_pairs] of (people's, judge's) outcome; NaN if all are one outcome."""
    from sklearn.metrics import cohen_kappa_score

    if len({outcome for pair in pairs for outcome in pair}) < 2:
        return NAN
    people, judge = zip(*pairs, strict=True)
    return float(cohen_kappa_score(people, judge, labels=range(len(OUTCOMES))))


def _mean(values: list[float], clusters: Sequence[str] | None = None) -> Estimate:
    low, high = mean_interval(values, clusters)
    return Estimate(fmean(values), low, high, len(set(clusters or range(len(values)))))


def _kappa(
    table: Sequence[Sequence[int]],
    kappa: Callable[[Sequence[Sequence[int]]], float],
    why_nan: str,
    resamples: int = 2000,
) -> Estimate:
    value = kappa(table)
    if math.isnan(value):
        return Estimate(NAN, NAN, NAN, len(table), why_nan)
    # NaN where a resample can have one outcome only: then there is no honest interval
    low, high = bootstrap_interval(table, kappa, resamples=resamples)
    return Estimate(value, low, high, len(table))
