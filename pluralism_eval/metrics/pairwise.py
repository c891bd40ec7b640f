"""Win, tie or lose of one response against another, from two verdicts a pair (Figure 3).

A judge sees every pair in both orders. Verdicts that agree decide; a disagreement between the orders is
a tie, and says where the judge looks (position bias); a verdict that cannot be read leaves the pair
unscored. Judges also like length: it is reported, and a win rate at equal length.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from pluralism_eval.metrics.statistics import mean_interval

Verdict = str | None
""""1", "2" or "tie": the better of two responses as shown; None: not read."""
Verdicts = Sequence[Verdict]
"""[2]: of the order (run, baseline), then of (baseline, run)."""
Lengths = tuple[float, float, float]
"""(words of the run's response, words of the baseline's, outcome or NaN)."""
NAN = float("nan")
_AS_SHOWN = ({"1": 1.0, "2": -1.0, "tie": 0.0}, {"1": -1.0, "2": 1.0, "tie": 0.0})
MIN_PAIRS = 10
"""Scored pairs that the length-controlled win rate needs."""


def outcome(verdicts: Verdicts) -> float:
    """1 win, 0 tie, -1 lose of the run; a disagreement is a tie; NaN if a verdict was not read."""
    points = _points(verdicts)
    if points is None:
        return NAN
    return points[0] if points[0] == points[1] else 0.0


def outcome_name(verdicts: Verdicts) -> str:
    """``win``, ``tie``, ``lose`` or ``unparsed``."""
    points = outcome(verdicts)
    return "unparsed" if math.isnan(points) else {1.0: "win", 0.0: "tie", -1.0: "lose"}[points]


def disagrees(verdicts: Verdicts) -> float:
    """1 if the two orders contradict each other, else 0; NaN if a verdict was not read."""
    points = _points(verdicts)
    return NAN if points is None else float(points[0] != points[1])


def named(verdicts: Verdicts) -> tuple[int, int]:
    """(how many of a pair's verdicts name the response shown first, how many name one at all).

    (0, 0) if a verdict was not read: only pairs seen in both orders are balanced.
    """
    if _points(verdicts) is None:
        return 0, 0
    return sum(v == "1" for v in verdicts), sum(v != "tie" for v in verdicts)


def _points(verdicts: Verdicts) -> tuple[float, float] | None:
    first, second = verdicts
    if first is None or second is None:
        return None
    return _AS_SHOWN[0][first], _AS_SHOWN[1][second]


# ---------------------------------------------------------------------- position


@dataclass(frozen=True)
class Share:
    """A share with its two-sided binomial test against one half."""

    value: float
    """0 ≤ value ≤ 1; NaN of nothing."""
    p_value: float
    """NaN of nothing."""
    n: int


def share(count: int, n: int) -> Share:
    """``count`` of ``n``, tested against one half."""
    from scipy.stats import binomtest

    return Share(count / n, float(binomtest(count, n).pvalue), n) if n else Share(NAN, NAN, 0)


def position(pairs: Sequence[tuple[int, int]]) -> Share:
    """Verdicts naming the response shown first, among those that name one; 0.5 without a bias.

    Args:
        pairs: [n_pairs] of :func:`named`. A judge without bias names the first exactly once a pair
            that it decides, so the test is conservative; :func:`position_of_disagreements` is exact.
    """
    return share(sum(first for first, _ in pairs), sum(n for _, n in pairs))


def position_of_disagreements(verdicts: Sequence[Verdicts]) -> Share:
    """Disagreeing pairs that lean to the response shown first, whichever that was."""
    leaning = [named(v) for v in verdicts if disagrees(v) == 1.0]
    return share(sum(first > 0 for first, _ in leaning), len(leaning))


# ---------------------------------------------------------------------- length


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with its two-sided p-value; NaN if either side is constant."""

    value: float
    p_value: float


@dataclass(frozen=True)
class Controlled:
    """A win rate (wins and half of the ties) at equal length; NaN with the ``reason``."""

    rate: float
    reason: str = ""


def length_correlation(items: Sequence[Lengths]) -> Correlation:
    """Of (words of the run's response - words of the baseline's) with the outcome (1, 0, -1)."""
    from scipy.stats import spearmanr

    scored = _scored(items)
    differences, outcomes = [a - b for a, b, _ in scored], [o for _, _, o in scored]
    if len(set(differences)) < 2 or len(set(outcomes)) < 2:
        return Correlation(NAN, NAN)
    found = spearmanr(differences, outcomes)
    return Correlation(float(found.statistic), float(found.pvalue))


def length_controlled(items: Sequence[Lengths]) -> Controlled:
    """The win rate that two responses of equal length would have, by a logistic regression.

    The outcome (win 1, tie one half, lose 0) is regressed on ln((words + 1) / (baseline words + 1))
    divided by its standard deviation; the rate is the prediction where that is 0. A tie so counts as
    half a win and half a loss. It is the length term of length-controlled AlpacaEval, without that
    estimator's terms for models and instructions.
    """
    scored = _scored(items)
    if len(scored) < MIN_PAIRS:
        return Controlled(NAN, f"{len(scored)} scored pairs, at least {MIN_PAIRS} are needed")
    ratios = np.log([(a + 1) / (b + 1) for a, b, _ in scored])
    wins = np.array([(o + 1) / 2 for _, _, o in scored])
    spread = float(ratios.std())
    if spread < 1e-12:
        equal = abs(float(ratios[0])) < 1e-12
        return (
            Controlled(float(wins.mean()))
            if equal
            else Controlled(NAN, "all length ratios are equal")
        )
    if _separated(ratios[wins > 0], ratios[wins < 1]):
        return Controlled(
            NAN, "length or one outcome alone decides every pair (perfect separation)"
        )
    return _fitted(ratios / spread, wins)


def _scored(items: Sequence[Lengths]) -> list[Lengths]:
    return [item for item in items if not math.isnan(item[2])]


def _separated(won: np.ndarray, lost: np.ndarray) -> bool:
    """True if a threshold parts wins from losses (ties are both), so that no maximum exists."""
    if not len(won) or not len(lost):
        return True
    return bool(won.min() >= lost.max() or won.max() <= lost.min())


def _fitted(ratios: np.ndarray, wins: np.ndarray) -> Controlled:
    import statsmodels.api as sm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the fit warns of is asked of its result below
        fit = sm.GLM(wins, sm.add_constant(ratios), family=sm.families.Binomial()).fit()
    if not fit.converged or not np.isfinite(fit.params).all():
        return Controlled(NAN, "the regression did not converge")
    return Controlled(float(1 / (1 + math.exp(-fit.params[0]))))


# ---------------------------------------------------------------------- all of it


@dataclass(frozen=True)
class Judged:
    """One pair as judged."""

    cluster: Hashable
    """Its situation."""
    words: tuple[int, int]
    """Of the run's response, of the baseline's."""
    verdicts: Verdicts


@dataclass(frozen=True)
class Rate:
    """A mean over scored pairs with its 95 % interval (bootstrap over situations)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """What a judge says of a run against a baseline. All NaN where nothing could be scored."""

    pairs: int
    scored: int
    """Both verdicts read; all rates are over these."""
    clusters: int
    unparsed: float
    """Share of pairs that are not scored."""
    win: Rate
    tie: Rate
    """Including disagreements."""
    lose: Rate
    net_win: Rate
    """win - lose; -1 ≤ net_win ≤ 1."""
    half_tie_win: Rate
    """Wins and half of the ties: what ``length_controlled`` is to be compared with."""
    sign_test: Share
    """Wins among the pairs that are no tie. It takes pairs as independent."""
    disagreement: Rate
    position: Share
    position_of_disagreements: Share
    words: float
    words_baseline: float
    length_correlation: Correlation
    length_controlled: Controlled


def report(judged: Sequence[Judged]) -> Report:
    """The whole report; swapping run and baseline swaps win and lose."""
    outcomes = [outcome(j.verdicts) for j in judged]
    kept = [i for i, o in enumerate(outcomes) if not math.isnan(o)]
    scores, clusters = [outcomes[i] for i in kept], [judged[i].cluster for i in kept]

    def rate(values: Sequence[float]) -> Rate:
        return (
            Rate(_mean(values), *mean_interval(values, clusters)) if values else Rate(NAN, NAN, NAN)
        )

    won, lost = sum(s > 0 for s in scores), sum(s < 0 for s in scores)
    lengths = [(*j.words, o) for j, o in zip(judged, outcomes, strict=True)]
    return Report(
        pairs=len(judged),
        scored=len(kept),
        clusters=len(set(clusters)),
        unparsed=1 - len(kept) / len(judged) if judged else NAN,
        win=rate([float(s > 0) for s in scores]),
        tie=rate([float(s == 0) for s in scores]),
        lose=rate([float(s < 0) for s in scores]),
        net_win=rate(scores),
        half_tie_win=rate([(s + 1) / 2 for s in scores]),
        sign_test=share(won, won + lost),
        disagreement=rate([disagrees(judged[i].verdicts) for i in kept]),
        position=position([named(j.verdicts) for j in judged]),
        position_of_disagreements=position_of_disagreements([j.verdicts for j in judged]),
        words=_mean([float(j.words[0]) for j in judged]),
        words_baseline=_mean([float(j.words[1]) for j in judged]),
        length_correlation=length_correlation(lengths),
        length_controlled=length_controlled(lengths),
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else NAN
