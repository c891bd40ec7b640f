"""Draws panels: a row a run, values with intervals, baselines as open markers with lines through the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pluralism_eval.report.figures.panels import Line, Panel, Point, shown
from pluralism_eval.report.figures.style import (
    INK,
    MARKERS,
    RULE,
    SERIES,
    SIZE,
    SMALL,
    SOFT,
    WIDTH,
    Sheet,
    room,
    short,
)

BASELINE_MARKERS = {
    "uniform": "s", "always first option": "<", "always the option shown first": ">", "majority": "^",
    "other groups' mean": "D", "human split-half": "o", "the query itself as response": "v",
}  # fmt: skip
_ROW, _HEAD, _AXIS, _GAP, _LANE = 0.2, 0.27, 0.24, 0.16, 0.1  # inches
_SIDE = 0.08  # inches
_CLOSE = 0.05  # of the axis: baselines nearer than this are put beside each other
_Part = tuple[str, float, int]
"""(``section``, ``strip`` of baselines or ``line``, height in inches, index of the line)."""


def draw_panels(
    panels: Sequence[Panel], rows: Sequence[Line], columns: int = 1, bars: bool = False
) -> Any:
    """A matplotlib figure of panels, in ``columns`` columns of one list of rows.

    Args:
        bars: bars from zero, in the place of markers alone.
    """
    limits = {panel.scale: _limit(panel.scale, panels) for panel in panels}
    names = [n for n in BASELINE_MARKERS if any(n in b for p in panels for b in _baselines(p))]
    tiers = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    layouts = [_layout(tier, rows, limits) for tier in tiers]
    heights = [_HEAD + sum(h for _, h, _ in layout) + _AXIS + _GAP for layout in layouts]
    y = -(-len(names) // 2) * 0.17 + (0.12 if names else 0)
    sheet = Sheet(y + sum(heights) - _GAP + 0.1)
    _legend(sheet, names)
    label = min(
        max(len(line.name) for line in rows) * SIZE * 0.58 / 72 + 0.12, 1.9 if columns == 1 else 1.5
    )
    value = 1.28 if columns == 1 else 0.42
    gap = 0.16
    width = (WIDTH - 2 * _SIDE - label - gap * (columns - 1)) / columns - value
    for tier, layout, height in zip(tiers, layouts, heights, strict=True):
        for i, panel in enumerate(tier):
            left = _SIDE + label + i * (width + value + gap)
            frame = _Frame(sheet, left, width, y, limits[panel.scale])
            frame.head(panel, value, label if i == 0 else 0)
            _body(frame, panel, rows, layout, label if i == 0 else 0, columns > 1, bars)
        y += height
    return sheet.figure


@dataclass(frozen=True)
class _Frame:
    """Where one panel stands, and its axis."""

    sheet: Sheet
    left: float
    width: float
    top: float
    limit: float

    def x(self, value: float) -> float:
        return self.left + self.width * min(max(value, 0.0), self.limit) / self.limit

    def head(self, panel: Panel, value: float, label: float) -> None:
        start, y = self.left - label, self.top + 0.1
        docs = panel.docs
        free = self.width + label + value - 0.12 - len(docs) * SMALL * 0.58 / 72
        self.sheet.text(start, y, short(panel.title, room(free, SIZE * 1.06)), bold=True)
        self.sheet.text(self.left + self.width + value, y, docs, SMALL, SOFT, at="right")

    def grid(self, top: float, bottom: float) -> None:
        for tick in self.ticks():
            self.sheet.line([self.x(tick)] * 2, [top, bottom], SOFT if tick == 0 else RULE)

    def ticks(self) -> list[float]:
        from matplotlib.ticker import MaxNLocator

        most = max(min(int(self.width / 0.34), 5), 2)
        found = MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(0, self.limit)
        return [float(tick) for tick in found if -1e-9 <= tick <= self.limit + 1e-9]

    def axis(self, y: float) -> None:
        for tick in self.ticks():
            self.sheet.text(self.x(tick), y, f"{tick:g}", SMALL, SOFT, at="center")


def _layout(
    panels: Sequence[Panel], rows: Sequence[Line], limits: Mapping[str, float]
) -> list[_Part]:
    """What stands below each other in panels beside each other.

    [(kind, height, index of the line)]: ``section``, ``strip`` of baselines, ``line``."""
    found: list[_Part] = []
    sections = len({line.section for line in rows}) > 1
    before: dict[int, Mapping[str, float]] = {}
    lanes = max(
        (len(set(_lanes(b, limits[p.scale]).values())) for p in panels for b in _baselines(p)),
        default=0,
    )
    for i, line in enumerate(rows):
        own = {k: point.baselines for k, panel in enumerate(panels) if (point := panel.points[i])}
        if any(b and b != before.get(k) for k, b in own.items()):
            found.append(("strip", 0.1 + _LANE * lanes, i))
        before |= own
        if sections and (i == 0 or rows[i - 1].section != line.section):
            found.append(("section", _ROW, i))
        found.append(("line", _ROW, i))
    return found


def _baselines(panel: Panel) -> list[Mapping[str, float]]:
    return [point.baselines for point in panel.points if point]


def _limit(scale: str, panels: Sequence[Panel]) -> float:
    """The end of an axis: 1 for shares, a little more than the largest distance drawn."""
    if scale == "share":
        return 1.0
    points = [p for panel in panels if panel.scale == scale for p in panel.points if p]
    values = [v for p in points for v in (p.value, p.high, *p.baselines.values()) if v == v]
    return max([1.05 * v for v in values] + [0.1])


def _lanes(baselines: Mapping[str, float], limit: float) -> dict[str, int]:
    """Baseline → lane, so that none hides another."""
    ends: list[float] = []
    found = {}
    for name, value in sorted(baselines.items(), key=lambda pair: pair[1]):
        free = (i for i, end in enumerate(ends) if value - end > _CLOSE * limit)
        lane = next(free, len(ends))
        ends[lane : lane + 1] = [value]
        found[name] = lane
    return found


def _body(
    frame: _Frame, panel: Panel, rows: Sequence[Line], layout: Sequence[_Part], label: float, brief: bool, bars: bool
) -> None:  # fmt: skip
    sheet, tops = frame.sheet, [frame.top + _HEAD]
    for _, height, _ in layout:
        tops.append(tops[-1] + height)
    for start, end in _blocks(layout):
        frame.grid(tops[start], tops[end])
    frame.axis(tops[-1] + 0.11)
    for at, (kind, height, i) in enumerate(layout):
        middle, point = tops[at] + height / 2, panel.points[i]
        if kind == "section" and label:
            free = WIDTH - 2 * _SIDE if not brief else label + frame.width
            text = short(rows[i].section, room(free, SMALL * 1.15))
            sheet.text(frame.left - label, middle + 0.02, text, SMALL, SOFT, bold=True)
        elif kind == "strip":
            if label:
                sheet.text(frame.left - 0.08, middle, "baselines", SMALL, SOFT, at="right")
            after = [k for k in range(at + 1, len(layout)) if layout[k][0] == "strip"]
            until = after[0] if after else len(layout)
            spans = [(tops[max(s, at)], tops[min(e, until)]) for s, e in _blocks(layout) if e > at and s < until]  # fmt: skip
            _strip(frame, point.baselines if point else {}, spans)
        elif kind == "line":
            if label:
                name = short(rows[i].name, room(label - 0.1))
                sheet.text(frame.left - 0.08, middle, name, at="right")
            _point(frame, point, rows[i], middle, brief, bars)


def _blocks(layout: Sequence[_Part]) -> list[tuple[int, int]]:
    """[(first, after the last)] parts between headings."""
    ends = [-1, *(i for i, (kind, _, _) in enumerate(layout) if kind == "section"), len(layout)]
    return [(a + 1, b) for a, b in pairwise(ends) if b > a + 1]


def _strip(
    frame: _Frame, baselines: Mapping[str, float], spans: Sequence[tuple[float, float]]
) -> None:
    """Markers in the first of the spans (top, bottom), lines through all."""
    drawn: set[float] = set()
    for name, lane in sorted(_lanes(baselines, frame.limit).items(), key=lambda pair: pair[1]):
        x, y = frame.x(baselines[name]), spans[0][0] + 0.1 + _LANE * lane
        for top, bottom in spans if round(x, 2) not in drawn else ():  # dashes on dashes look solid
            frame.sheet.line([x, x], [max(top, y), bottom], SOFT, dashed=True)
        drawn.add(round(x, 2))
        frame.sheet.mark(x, y, BASELINE_MARKERS[name], SOFT, filled=False, size=4.4)


def _point(
    frame: _Frame, point: Point | None, line: Line, y: float, brief: bool, bars: bool
) -> None:
    sheet = frame.sheet
    colour, marker = SERIES[line.style % len(SERIES)], MARKERS[line.style % len(MARKERS)]
    end = frame.left + frame.width + 0.07
    if point is None or math.isnan(point.value):
        sheet.text(end, y, "–", SMALL, SOFT)
        return
    x = frame.x(point.value)
    if bars:
        sheet.box(frame.left, y - 0.07, x - frame.left, 0.14, colour, 0.45)
    if not math.isnan(point.low):
        ends = [frame.x(point.low), frame.x(point.high)]
        sheet.line(ends, [y, y], INK if bars else colour, 1.2, caps=True, above=True)
    sheet.mark(x, y, marker, colour)
    sheet.text(end, y, shown(point, brief), SMALL, INK)


def _legend(sheet: Sheet, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        row, column = divmod(i, 2)
        x, y = _SIDE + column * (WIDTH - 2 * _SIDE) / 2 + 0.08, 0.1 + 0.17 * row
        sheet.mark(x, y, BASELINE_MARKERS[name], SOFT, filled=False, size=4.4)
        sheet.text(x + 0.12, y, f"({name})", SMALL, SOFT)
