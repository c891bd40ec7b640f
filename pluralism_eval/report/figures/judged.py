"""Figure 3: win, tie and lose of runs against their baselines, as a judge saw them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pluralism_eval.metrics.pairwise import Judged, Rate, Report, report
from pluralism_eval.plugin import JUDGED
from pluralism_eval.report.figures.figure import Figure
from pluralism_eval.report.figures.panels import Line, full_names, lines, number
from pluralism_eval.report.figures.style import (
    INK,
    SERIES,
    SIZE,
    SMALL,
    SOFT,
    WIDTH,
    Sheet,
    lines_of,
    plain,
    room,
    short,
)
from pluralism_eval.results import Run

_OUTCOMES = (
    ("win", SERIES[0], 0.55, ""),
    ("tie", SOFT, 0.22, ""),
    ("lose", SERIES[1], 0.5, "//"),
)
_SIDE, _BAR, _NOTE = 0.08, 0.24, 0.16  # inches
_PRINTED = 0.1  # the share of a bar that has room for its number


@dataclass(frozen=True)
class _Bar:
    line: Line
    baseline: str
    found: Report


def figure3(runs: Mapping[str, Run]) -> list[Figure]:
    """Win, tie and lose of the runs that were judged."""
    own = {label: run for label, run in runs.items() if run.samples.get(JUDGED)}
    if not own:
        return []
    bars = []
    for line in lines(own):
        samples = own[line.label].samples_of(JUDGED)
        judged = [
            Judged(
                s["doc"]["cluster"],
                (s["words"], s["words_baseline"]),
                s["filtered_resps"][0]["verdicts"],
            )
            for s in samples
        ]
        told = plain(str(samples[0]["filtered_resps"][0].get("baseline_name", "its baseline")))
        bars.append(_Bar(line, told, report(judged)))
    several = len({bar.line.section for bar in bars}) > 1
    caption = (
        "Which of two Overton responses reflects pluralistic values better, by an LLM judge that sees every pair in both "
        "orders; orders that disagree count as a tie. Whiskers are 95 % bootstrap intervals over situations, of win (below the bar) "
        "and of lose (above). A judge has likings of its own, such as long responses or the one shown first: look at how "
        "often its two orders disagree and at its audits before the bars."
    )
    if not several and bars[0].line.section:
        caption += f" LLM: {bars[0].line.section}."
    return [
        Figure(
            "figure3", "Overton: win, tie, lose by a judge", caption, _alt(bars), _rows(bars),
            partial(_draw, bars, several),
        )
    ]  # fmt: skip


def _rate(rate: Rate) -> str:
    """``38 % [30, 46]``"""
    if math.isnan(rate.value):
        return "–"
    ends = "" if math.isnan(rate.low) else f" [{100 * rate.low:.0f}, {100 * rate.high:.0f}]"
    return f"{100 * rate.value:.0f} %{ends}"


def _alt(bars: Sequence[_Bar]) -> str:
    names = full_names([bar.line for bar in bars])
    return " ".join(
        f"{name} against {bar.baseline}: wins {_rate(bar.found.win)}, ties {_rate(bar.found.tie)}, loses "
        f"{_rate(bar.found.lose)} of {bar.found.scored} pairs; the judge's orders disagree on "
        f"{_rate(bar.found.disagreement)}."
        for name, bar in zip(names, bars, strict=True)
    )


def _rows(bars: Sequence[_Bar]) -> list[list[str]]:
    rates = ("win", "tie", "lose", "net_win", "disagreement")
    header = ["LLM", "run", "against", "pairs", "scored"]
    header += [name for rate in rates for name in (rate, f"{rate} low", f"{rate} high")]
    rows = [[*header, "unread", "names the first"]]
    for bar in bars:
        found = bar.found
        numbers = [v for name in rates for v in _ends(getattr(found, name))]
        rows.append(
            [
                bar.line.section,
                plain(bar.line.label),
                bar.baseline,
                str(found.pairs),
                str(found.scored),
            ]
            + [number(v) for v in (*numbers, found.unparsed, found.position.value)]
        )
    return rows


def _ends(rate: Rate) -> tuple[float, float, float]:
    return rate.value, rate.low, rate.high


def _draw(bars: Sequence[_Bar], several: bool) -> Any:
    notes = [lines_of(_note(bar), room(WIDTH - 2 * _SIDE, SMALL)) for bar in bars]
    each = [0.2 + _BAR + 0.06 + _NOTE * len(note) + 0.12 for note in notes]
    heads = [
        0.24 if several and (i == 0 or bars[i - 1].line.section != bar.line.section) else 0.0
        for i, bar in enumerate(bars)
    ]
    sheet = Sheet(0.32 + sum(each) + sum(heads))
    x = _SIDE
    for name, colour, alpha, hatch in _OUTCOMES:
        sheet.box(x, 0.05, 0.2, 0.12, colour, alpha, hatch)
        sheet.text(x + 0.26, 0.11, name, SMALL)
        x += 0.75
    y = 0.32
    for bar, note, height, head in zip(bars, notes, each, heads, strict=True):
        if head:
            llm = short(bar.line.section, room(WIDTH - 2 * _SIDE, SMALL * 1.15))
            sheet.text(_SIDE, y + 0.08, llm, SMALL, SOFT, bold=True)
        _bar(sheet, bar, y + head, note)
        y += height + head
    return sheet.figure


def _bar(sheet: Sheet, bar: _Bar, top: float, note: Sequence[str]) -> None:
    left, width, y = _SIDE, WIDTH - 2 * _SIDE, top + 0.2
    against = f"{bar.line.name}  against  {bar.baseline}"
    sheet.text(left, top + 0.09, short(against, room(width - 0.9)), SIZE)
    pairs = f"{bar.found.scored:,} pair{'' if bar.found.scored == 1 else 's'}"
    sheet.text(left + width, top + 0.09, pairs, SMALL, SOFT, at="right")
    start = 0.0
    for name, colour, alpha, hatch in _OUTCOMES:
        value = getattr(bar.found, name).value
        if math.isnan(value):
            sheet.text(left, y + _BAR / 2, "no pair could be scored", SMALL, SOFT)
            break
        sheet.box(left + width * start, y, width * value, _BAR, colour, alpha, hatch)
        if value >= _PRINTED:
            middle = left + width * (start + value / 2)
            sheet.text(middle, y + _BAR / 2, f"{100 * value:.0f} %", SIZE, at="center")
        start += value
    win, lose = bar.found.win, bar.found.lose
    if not math.isnan(win.low):
        for ends, at in (((win.low, win.high), y + _BAR), ((1 - lose.high, 1 - lose.low), y)):
            sheet.line([left + width * e for e in ends], [at] * 2, INK, 1.2, caps=True, above=True)
    for i, line in enumerate(note):
        sheet.text(left, y + _BAR + 0.14 + _NOTE * i, line, SMALL, SOFT)


def _note(bar: _Bar) -> str:
    found = bar.found
    unread = (
        ""
        if found.unparsed == 0
        else f", {100 * found.unparsed:.0f} % of {found.pairs} pairs not read"
    )
    return (
        f"win {_rate(found.win)}, tie {_rate(found.tie)}, lose {_rate(found.lose)}; orders disagree on "
        f"{_rate(found.disagreement)}{unread}"
    )
