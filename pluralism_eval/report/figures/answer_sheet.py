"""Draws docs in full: question, options, and a row of bars for every distribution over the options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pluralism_eval.report.figures.style import (
    INK,
    RULE,
    SERIES,
    SIZE,
    SMALL,
    SOFT,
    WIDTH,
    Sheet,
    lines_of,
    room,
    short,
)

_SIDE, _ROW, _LINE = 0.08, 0.19, 0.16  # inches
_LABEL, _DISTANCE = 1.5, 0.45
_COLOURS = {"people": INK, "run": SERIES[0], "community": SERIES[2]}


@dataclass(frozen=True)
class Distribution:
    """One distribution over a doc's options."""

    name: str
    kind: str
    """``people``, ``run`` or ``community``."""
    distribution: tuple[float, ...] | None
    """[n_options]; None: nothing could be read."""
    distance: float
    """J-S distance to people's; NaN for theirs."""
    section: str = ""
    """Heading above the first row that has it."""


@dataclass(frozen=True)
class Doc:
    """A question and everyone's distributions over its options."""

    id: str
    group: str
    question: str
    options: tuple[str, ...]
    rows: tuple[Distribution, ...]


def draw_docs(docs: Sequence[Doc]) -> Any:
    """A matplotlib figure of the docs, below each other."""
    heads = [_head(doc) for doc in docs]
    heights = [
        len(head) * _LINE + 0.38 + _ROW * (len(doc.rows) + len(_headings(doc)) + 1)
        for doc, head in zip(docs, heads, strict=True)
    ]
    sheet, top = Sheet(sum(heights)), 0.0
    for doc, head, height in zip(docs, heads, heights, strict=True):
        for i, (text, size, colour, bold) in enumerate(head):
            sheet.text(_SIDE, top + _LINE * (i + 0.6), text, size, colour, bold=bold)
        _table(sheet, doc, top + len(head) * _LINE + 0.1)
        top += height
    return sheet.figure


def _head(doc: Doc) -> list[tuple[str, float, str, bool]]:
    """Lines of text: (text, size, colour, bold)."""
    wide = room(WIDTH - 2 * _SIDE, SIZE)
    options = [
        line
        for i, option in enumerate(doc.options)
        for line in lines_of(f"{_letter(i)}. {option}", room(WIDTH - 2 * _SIDE, SMALL), most=2)
    ]
    return [
        (short(f"{doc.group} · doc {doc.id}", wide - 8), SMALL, SOFT, True),
        *((line, SIZE, INK, False) for line in lines_of(doc.question, wide, most=5)),
        *((line, SMALL, SOFT, False) for line in options),
    ]


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _table(sheet: Sheet, doc: Doc, top: float) -> None:
    n, left = len(doc.options), _SIDE + _LABEL
    cell = (WIDTH - _SIDE - left - _DISTANCE) / n
    ahead = 0.25 if cell > 0.5 else 0.0  # many options: numbers on their bars
    for i in range(n):
        x = left + cell * i + ahead + 0.03
        sheet.text(x, top + _ROW / 2, _letter(i), SMALL, SOFT)
    sheet.text(WIDTH - _SIDE, top + _ROW / 2, "J-S", SMALL, SOFT, at="right")
    y, headings = top + _ROW, _headings(doc)
    for i, row in enumerate(doc.rows):
        if i == 0 or row.kind != doc.rows[i - 1].kind:
            sheet.line([_SIDE, WIDTH - _SIDE], [y, y], RULE)
        if i in headings:
            text = short(row.section, room(WIDTH - 2 * _SIDE, SMALL * 1.15))
            sheet.text(_SIDE, y + _ROW / 2 + 0.02, text, SMALL, SOFT, bold=True)
            y += _ROW
        _strip(sheet, row, y, left, cell, ahead)
        y += _ROW


def _headings(doc: Doc) -> list[int]:
    """Rows that have a heading above them."""
    return [
        i
        for i, row in enumerate(doc.rows)
        if row.section and row.section != doc.rows[i - 1].section
    ]


def _strip(
    sheet: Sheet, row: Distribution, y: float, left: float, cell: float, ahead: float
) -> None:
    colour, middle = _COLOURS[row.kind], y + _ROW / 2
    name = short(row.name, room(_LABEL - 0.1))
    sheet.text(left - 0.08, middle, name, at="right", bold=row.kind == "people")
    if row.distribution is None:
        sheet.text(left + 0.04, middle, "–", SMALL, SOFT)
        return
    for i, p in enumerate(row.distribution):
        x, wide = left + cell * i, max(cell - 0.06 - ahead, 0.01)
        sheet.box(x + ahead, y + 0.03, wide, _ROW - 0.06, RULE, 0.35)
        sheet.box(x + ahead, y + 0.03, wide * p, _ROW - 0.06, colour, 0.6 if ahead else 0.4)
        at = (x + 0.2, "right") if ahead else (x + 0.04, "left")
        sheet.text(at[0], middle, f"{100 * p:.0f}", SMALL, at=at[1])
    if not math.isnan(row.distance):
        sheet.text(WIDTH - _SIDE, middle, f"{row.distance:.3f}", SMALL, at="right")
