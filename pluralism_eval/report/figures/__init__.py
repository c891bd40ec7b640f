"""Figures of runs: the paper's 2, 3 and 4, small multiples of groups, docs in full, and an overview."""

from __future__ import annotations

from collections.abc import Mapping

from pluralism_eval.report.figures.distributions import distributions
from pluralism_eval.report.figures.figure import FORMATS, Figure, save
from pluralism_eval.report.figures.judged import figure3
from pluralism_eval.report.figures.scores import countries, figure2, figure4, groups, overview
from pluralism_eval.results import Run

__all__ = ["FORMATS", "Figure", "figure3", "figures", "save"]
_DRAWERS = (overview, figure2, figure3, figure4, countries, groups, distributions)


def figures(runs: Mapping[str, Run]) -> list[Figure]:
    """The figures that the tasks of ``runs`` allow, the overview first.

    Args:
        runs: label → run.

    Raises:
        PluralismError: a run without the samples of a task that it has results of.
    """
    return [figure for drawer in _DRAWERS for figure in drawer(runs)]
