"""The table of simulated benchmarks as Markdown."""

from __future__ import annotations

from pluralism_eval.control.simulate import ALPHA, GOAL, Row, Simulated, most_false
from pluralism_eval.control.worlds import COMMON
from pluralism_eval.report import tabular

_HEAD = (
    "score", "docs", "clusters", "intervals that hold the truth", "without the correction", "of the difference",
    "test", "false positives: alike", "false positives: equal means", "better by", "power", "better one first", "goals",
)  # fmt: skip


def document(found: Simulated, command: str) -> str:
    """The whole text."""
    benchmarks = f"{found.benchmarks:,}"
    error = (0.95 * 0.05 / found.benchmarks) ** 0.5
    missed = [f"{row.score} at {row.docs} docs" for row in found.rows if not row.met(found)]
    return tabular.document([
        "# Simulated benchmarks: do the intervals hold the truth, and how often do the tests err?", "",
        f"Made by `{command}`; do not edit. Without models: {benchmarks} simulated benchmarks a row, seed {found.seed}. "
        f"Simulating has an error of its own, {error:.2%} (one standard error) at a share of 95 % or 5 %.", "",
        *_reading(found), "", table(found), "", f"Goals missed: {'; '.join(missed) or 'none'}.", "",
        "## All paired tests of a report together", "",
        "Holm's correction over the five scores that reports test, one pair of methods.", "", families(found), "",
        "## How the benchmarks are made", "", *_MADE, "",
    ])  # fmt: skip


def _reading(found: Simulated) -> list[str]:
    return [
        f"- *Intervals that hold the truth*: 95 % intervals of a score, as in every table; goal {GOAL[0]:.0%} to {GOAL[1]:.0%}. "
        "*Without the correction*: plain percentiles of the same bootstrap, which this table led us to correct "
        "(`metrics/statistics.py`, `widened`).",
        "- *Of the difference*: 95 % intervals of the difference between two methods, same goal.",
        "- *False positives*: share of p ≤ 0.05 between two methods with the same true score, which are alike in everything or "
        f"differ in all but the mean; goal: at most {ALPHA:.0%}, plus the error of simulating (three standard errors, so at "
        f"most {most_false(found.benchmarks):.2%}).",
        "- *Better by*, *power*, *better one first*: the true difference; how often p ≤ 0.05 in favour of the better method; "
        "how often it has the better score.",
    ]


_MADE = (
    "- The number of docs of a question or situation is drawn from that of the released inputs (`--measure authors` prints it); "
    "the last cluster is cut. VK's gold labels and Overton's numbers of values come in the released shares.",
    f"- Each method has an effect of the cluster and one of the doc; {COMMON:.0%} of the variance of either is common to both methods "
    "(assumed). The share of the cluster follows correlations in the released inputs: 0.85 (latent) for GlobalOpinionQA, 0.9 for OpinionQA, "
    "0.3 for VK.",
    "- Scores lie in the metric's range: right or wrong by a threshold (for VK another one for each gold label), "
    "J-S distances by a beta distribution with the mean and spread of the uniform answer's distances, coverage as the mean over values.",
    "- The truth is a formula: the threshold's probability, the mean of the beta distribution, the mean of the recalls. A test "
    "compares it with 400,000 simulated docs.",
    "- Not simulated: scores near 0 or 1 (all right, nothing covered), where no interval of 50 docs can be trusted; wrong gold answers; "
    "the choice of docs, which are taken to be a random sample.",
)  # fmt: skip


def table(found: Simulated) -> str:
    """All rows."""
    return tabular.grid([_HEAD, *(_cells(row, row.met(found)) for row in found.rows)])


def _cells(row: Row, met: bool) -> list[str]:
    return [
        row.score, str(row.docs), f"{row.clusters:.0f}", _share(row.held), _share(row.held_plain),
        _share(row.held_difference), row.test or "–", _share(row.false_alike), _share(row.false_unlike),
        f"{row.better_by:+.3f}", _share(row.power), _share(row.first), "met" if met else "missed",
    ]  # fmt: skip


def families(found: Simulated) -> str:
    """Rows of Holm's correction."""
    names = list(found.families[0].power)
    rows = [
        [str(f.docs), _share(f.false_alike), *(_share(f.power[name]) for name in names)]
        for f in found.families
    ]
    return tabular.grid(
        [["docs", "any false positive", *(f"power: {name}" for name in names)], *rows]
    )


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
