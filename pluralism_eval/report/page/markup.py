"""Tables, figures and texts as HTML. Whatever comes from outside goes through :func:`text`."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from pluralism_eval.report.tabular import Column, Number, Row, Table, sections, text_of

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ud800-\udfff]"
)
"""Controls, and signs that turn or hide text. ``page.js`` has the same."""
_STYLE = re.compile(r'\sstyle="([^"]*)"')


class Figure(Protocol):
    """What :mod:`pluralism_eval.report.figures` draws."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def caption(self) -> str: ...
    @property
    def alt(self) -> str: ...
    @property
    def svg(self) -> str: ...
    @property
    def rows(self) -> list[list[str]]: ...


def text(value: Any) -> str:
    """Escaped, with control characters and those that turn text around made visible."""
    return html.escape(_INVISIBLE.sub(_visible, str(value)))


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else f"[U+{code:04X}]"


def label(value: str) -> str:
    """A name, kept apart from the direction of the text around it; may break after underscores."""
    return f"<bdi>{text(value).replace('_', '_<wbr>')}</bdi>"


def anchor(prefix: str, name: str) -> str:
    """An id made of letters, digits and dashes."""
    return f"{prefix}-{re.sub(r'[^a-zA-Z0-9]+', '-', name).strip('-').lower() or 'x'}"


def scores_table(table: Table) -> str:
    """A table of scores with sortable columns; sections, baselines and rows of the paper set apart."""
    name = anchor("table", table.name)
    heads = "".join(_head(column) for column in table.columns)
    bodies = "".join(
        f"<tbody>{_section(title, len(table.columns))}{''.join(_row(row, table) for row in rows)}</tbody>"
        for title, rows in sections(table)
    )
    notes = "".join(f"<li>{text(note)}</li>" for note in table.notes)
    return (
        f'<section class="block" aria-labelledby="{name}"><h3 id="{name}">{text(table.title)}</h3>'
        + boxed(
            f'<table class="scores" data-sortable><caption class="sr">{text(table.title)}</caption>'
            f'<thead><tr><th scope="col"><span class="sr">System</span></th>{heads}</tr></thead>{bodies}</table>',
            table.title,
        )
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + "</section>"
    )


def _head(column: Column) -> str:
    better = ""
    if column.higher_is_better is not None:
        sign, words = ("↑", "higher") if column.higher_is_better else ("↓", "lower")
        better = (
            f'<span aria-hidden="true"> {sign}</span><span class="sr">, {words} is better</span>'
        )
    return f'<th scope="col" class="number" data-title="{text(column.title)}"><span class="title">{text(column.title)}{better}</span></th>'


def _section(title: str, columns: int) -> str:
    if not title:
        return ""
    return (
        f'<tr class="section"><th scope="rowgroup" colspan="{columns + 1}">{label(title)}</th></tr>'
    )


def _row(row: Row, table: Table) -> str:
    what = {"baseline": " (baseline)", "paper": " (paper)"}.get(row.kind, "")
    cells = "".join(_cell(n, c) for n, c in zip(row.cells, table.columns, strict=True))
    kind = anchor("row", row.kind)
    return (
        f'<tr class="{kind}"><th scope="row">{label(row.label)}'
        f'<span class="kind">{what}</span></th>{cells}</tr>'
    )


def _cell(number: Number | None, column: Column) -> str:
    if number is None or math.isnan(number.value):
        return '<td class="number none"><span aria-hidden="true">–</span><span class="sr">no value</span></td>'
    shown, bracket, rest = text_of(replace(number, mark=""), column).partition(" [")
    value = text(shown)
    if number.best:
        value = f'<strong>{value}</strong><span class="sr"> (best)</span>'
    if number.mark:
        value += f"<sup>{text(number.mark)}</sup>"
    interval = f' <span class="interval">[{text(rest)}</span>' if bracket else ""
    docs = f' title="{number.n} docs"' if number.n else ""
    return f'<td class="number" data-value="{number.value!r}"{docs}>{value}{interval}</td>'


def plain_table(rows: Sequence[Sequence[str]], caption: str) -> str:
    """Rows of text, the header first."""
    head, *body = rows
    heads = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{label(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in body
        if row
    )
    return boxed(
        f'<table class="plain"><caption class="sr">{text(caption)}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>",
        caption,
    )


def figures(drawn: Sequence[Figure]) -> tuple[str, str]:
    """(all drawings as HTML, a style sheet for them).

    A policy that allows styles by their hash forbids ``style`` attributes: each becomes a class.
    """
    styles: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return f' class="{styles.setdefault(html.unescape(found[1]), f"drawn{len(styles)}")}"'

    parts = [_figure(one, _STYLE.sub(named, one.svg)) for one in drawn]
    sheet = "\n".join(f".{name} {{ {style} }}" for style, name in styles.items())
    return f'<div class="figures">{"".join(parts)}</div>' if parts else "", sheet.replace("<", "")


def _figure(drawn: Figure, svg: str) -> str:
    """A drawing with its text for who cannot see it, its caption, and the numbers behind it."""
    name = anchor("figure", drawn.name)
    numbers = ""
    if drawn.rows:
        numbers = f"<details><summary>The numbers</summary>{plain_table(drawn.rows, f'Numbers of: {drawn.title}')}</details>"
    return (
        f'<figure class="block" aria-labelledby="{name}"><h3 id="{name}">{text(drawn.title)}</h3>'
        f'<div class="plot" tabindex="0" role="region" aria-labelledby="{name}">'
        f'<div role="img" aria-label="{text(drawn.alt)}"><div aria-hidden="true">{svg}</div></div></div>'
        f"<figcaption>{text(drawn.caption)}</figcaption>{numbers}</figure>"
    )


def boxed(table: str, label: str) -> str:
    """Scrolls inside its box where it is too wide; reachable with the keyboard."""
    return f'<div class="box" tabindex="0" role="region" aria-label="{text(label)}">{table}</div>'


def pairs(facts: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """A list of names and values; values that are empty are left out."""
    items = facts.items() if isinstance(facts, Mapping) else facts
    rows = "".join(
        f"<div><dt>{text(name)}</dt><dd><bdi>{text(value)}</bdi></dd></div>"
        for name, value in items
        if value not in (None, "", {}, [], ())
    )
    return f"<dl>{rows}</dl>"
