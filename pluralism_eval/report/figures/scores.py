"""Figures 2 and 4, the small multiples of countries and groups, and the overview."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isnan
from typing import Any

from pluralism_eval.metrics.options import TABLE3_COUNTRIES
from pluralism_eval.report.breakdown import group_names
from pluralism_eval.report.figures.figure import Figure
from pluralism_eval.report.figures.panel_sheet import draw_panels
from pluralism_eval.report.figures.panels import Line, Panel, Point, lines, rows_of
from pluralism_eval.report.figures.words import PEOPLE, alt_of, care
from pluralism_eval.report.table import measured
from pluralism_eval.results import Run
from pluralism_eval.scoring import scores_of
from pluralism_eval.tasks import GLOBALOPINIONQA, MORALCHOICE, OPINIONQA, OVERTON, headlines
from pluralism_eval.tasks.baselines import Samples
from pluralism_eval.tasks.items import CATEGORIES
from pluralism_eval.tasks.task import Column

Runs = Mapping[str, Run]
Known = dict[tuple[str, ...], dict[str, float]]
"""Docs → what the baselines score on them."""
MOST = 12
"""Panels of one figure: of more groups, the last panel sums up the rest."""
_AMBIGUITY = {"low_ambiguity": "Low ambiguity", "high_ambiguity": "High ambiguity"}
_DISTANCE = "J-S distance (base e) is 0 for equal distributions and 0.83 for disjoint ones; lower is better."
_INTERVALS = "Whiskers are 95 % bootstrap intervals over"


def overview(runs: Runs) -> list[Figure]:
    """One panel a headline score."""
    own = _with(runs, *(column.task for column in headlines()))
    if not own:
        return []
    panels = [_headline(own, column) for column in headlines() if _with(runs, column.task)]
    caption = (
        f"Every headline score. {_INTERVALS} questions or situations; open markers and dashed lines are what constant "
        f"and human answers score on the same docs. {_DISTANCE} {care(panels)}"
    )
    return [_figure("overview", "Headline scores", caption, panels, lines(own), "score")]


def figure2(runs: Runs) -> list[Figure]:
    """Overton value coverage by method, grouped by LLM."""
    own = _with(runs, OVERTON)
    if not own:
        return []
    panel = replace(_headline(own, headlines()[0]), title="Share of values covered ↑")
    caption = (
        f"Share of a situation's values that a response reflects, by an NLI model; mean over {panel.docs}. {_INTERVALS} "
        "situations; the dashed line is what the query itself, repeated as the response, is given: coverage below it "
        f"is not evidence of pluralism. {_scorers(own)}{care([panel])}"
    )
    rows = lines(own)
    return [
        _figure("figure2", "Overton: value coverage", caption, [panel], rows, "score", bars=True)
    ]


def figure4(runs: Runs) -> list[Figure]:
    """MoralChoice by ambiguity."""
    own = _with(runs, MORALCHOICE)
    kept = ("uniform", "majority")
    panels = _grouped(
        own, MORALCHOICE, lambda name: _AMBIGUITY.get(name, name), list(_AMBIGUITY), kept
    )
    if not panels:
        return []
    caption = (
        f"Mean J-S distance between the LLM's answer and the gold answer. {_INTERVALS} scenarios. Where ambiguity is low "
        "the gold answer is one action, where it is high both are alike, so that the uniform answer is right "
        f"by construction. {_DISTANCE} {care(panels)}"
    )
    title = "Distributional MoralChoice: distance by ambiguity"
    return [_figure("figure4", title, caption, panels, lines(own), "ambiguity")]


def countries(runs: Runs) -> list[Figure]:
    """GlobalOpinionQA by country: Table 3's first, then in data order."""
    own = _with(runs, GLOBALOPINIONQA)
    if not own:
        return []
    kept = ("uniform", *PEOPLE)
    order = [*TABLE3_COUNTRIES, *_in_data_order(own, GLOBALOPINIONQA)]
    panels = _grouped(own, GLOBALOPINIONQA, str, order, kept)
    drawn = _at_most(panels, own, GLOBALOPINIONQA, order, kept)
    left = len(panels) - len(drawn) + 1
    others = f"The last panel is the mean over all docs of {left} more countries; each of them is among the numbers. " if left > 1 else ""  # fmt: skip
    caption = (
        f"Mean J-S distance between the LLM's answer and a country's people; Table 3's countries first. {_INTERVALS} "
        f"questions, none where a country has one. {others}{_DISTANCE} {care(panels)}"
    )
    title = "Distributional GlobalOpinionQA: distance by country"
    return [_figure("countries", title, caption, drawn, lines(own), "country", panels, columns=2)]


def groups(runs: Runs) -> list[Figure]:
    """OpinionQA by category of attribute: Table 2's."""
    own = _with(runs, OPINIONQA)
    kept = ("uniform", "majority", *PEOPLE)
    panels = _grouped(
        own, OPINIONQA, lambda n: CATEGORIES.get(n, n).capitalize(), list(CATEGORIES), kept
    )
    if not panels:
        return []
    caption = (
        "Share of questions on which the likeliest option is the one that most people of the group chose, by category of "
        f"the group. {_INTERVALS} questions. Higher is better. {care(panels)}"
    )
    title = "Steerable OpinionQA: match by category"
    return [_figure("groups", title, caption, panels, lines(own), "category", columns=2)]


# ---------------------------------------------------------------------- panels


def _with(runs: Runs, *tasks: str) -> dict[str, Run]:
    return {label: run for label, run in runs.items() if any(task in run.results for task in tasks)}


def _headline(runs: Runs, column: Column) -> Panel:
    points: dict[str, Point] = {}
    known: Known = {}
    for label, run in runs.items():
        found = next(
            (s for s in scores_of(run).get(column.task, []) if s.name == column.metric), None
        )
        if found is not None:
            baselines = _baselines(column, run.samples_of(column.task), known)
            points[label] = Point(found.value, found.low, found.high, found.n, baselines)
    return _panel(runs, column.title, points, column)


def _baselines(column: Column, samples: Samples, known: Known) -> dict[str, float]:
    """Computed once for runs over the same docs."""
    docs = tuple(str(s.get("doc_hash", id(s))) for s in samples)
    if docs not in known:
        known[docs] = column.baselines(samples)
    return known[docs]


def _panel(runs: Runs, title: str, points: Mapping[str, Point], column: Column) -> Panel:
    ordered = tuple(points.get(line.label) for line in lines(runs))
    if column.of.higher_is_better:
        return Panel(f"{title} ↑", ordered, "share", True)
    return Panel(f"{title} ↓", ordered, "distance", False)


def _grouped(
    runs: Runs, task: str, named: Callable[[str], str], order: Sequence[str], kept: Sequence[str]
) -> list[Panel]:  # fmt: skip
    """A panel a group, in ``order``; ``kept``: the baselines shown."""
    column = next(c for c in headlines() if c.task == task)
    found: dict[str, dict[str, Point]] = {}
    known: Known = {}
    for label, run in runs.items():
        parts: dict[str, list[Mapping[str, Any]]] = {}
        for sample in run.samples_of(task):
            parts.setdefault(group_names(task, sample)[0], []).append(sample)
        for name, samples in parts.items():
            found.setdefault(name, {})[label] = _point(column, samples, known, kept)
    names = [name for name in dict.fromkeys([*order, *found]) if name in found]
    return [_panel(runs, named(name), found[name], column) for name in names]


def _point(column: Column, samples: Samples, known: Known, kept: Sequence[str]) -> Point:
    baselines = {k: v for k, v in _baselines(column, samples, known).items() if k in kept}
    return Point(*measured(column, samples), len(samples), baselines)


def _in_data_order(runs: Runs, task: str) -> list[str]:
    return list(
        dict.fromkeys(
            group_names(task, s)[0] for run in runs.values() for s in run.samples_of(task)
        )
    )


def _at_most(
    panels: Sequence[Panel], runs: Runs, task: str, order: Sequence[str], kept: Sequence[str]
) -> list[Panel]:
    """The panels, or the first of them and one that sums up the rest."""
    if len(panels) <= MOST:
        return list(panels)
    column = next(c for c in headlines() if c.task == task)
    present = set(_in_data_order(runs, task))
    alone = [name for name in dict.fromkeys(order) if name in present][: MOST - 1]
    rest: dict[str, Point] = {}
    known: Known = {}
    for label, run in runs.items():
        samples: Samples = [s for s in run.samples_of(task) if group_names(task, s)[0] not in alone]
        if samples:
            rest[label] = _point(column, samples, known, kept)
    title = f"{len(panels) - len(alone)} others"
    return [*panels[: MOST - 1], _panel(runs, title, rest, column)]


# ---------------------------------------------------------------------- words


def _figure(
    name: str, title: str, caption: str, drawn: Sequence[Panel], rows: Sequence[Line], first: str,
    panels: Sequence[Panel] | None = None, columns: int = 1, bars: bool = False,
) -> Figure:  # fmt: skip
    """``panels``: behind the numbers, where more than are drawn."""
    llms = {line.section for line in rows}
    if len(llms) == 1 and (llm := llms.pop()):
        caption += f" LLM: {llm}."
    counted = list(drawn) if panels is None else [*panels, *(p for p in drawn if p not in panels)]
    return Figure(
        name, title, caption.strip(), alt_of(drawn, rows), rows_of(counted, rows, first),
        partial(draw_panels, drawn, rows, columns, bars),
    )  # fmt: skip


def _scorers(runs: Runs) -> str:
    """Which NLI model decided, and how often it is right where the answer is known."""
    found: dict[str, None] = {}
    for run in runs.values():
        sample = run.samples_of(OVERTON)[0]
        name = str(sample["doc"].get("pluralism", {}).get("nli", "not known")).split("+")[0]
        right = sample.get("nli_check_accuracy", float("nan"))
        found[
            name if isnan(right) else f"{name}, right on {100 * right:.0f} % of its check pairs"
        ] = None
    return f"NLI model: {'; '.join(found)}. "
