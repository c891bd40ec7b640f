"""Tables as data, and as Markdown, LaTeX and CSV: one source for terminal, files and page."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

NAN = float("nan")


@dataclass(frozen=True)
class Number:
    """One cell."""

    value: float
    low: float = NAN
    """95 % interval; NaN where there is none."""
    high: float = NAN
    n: int = 0
    """Docs behind it; 0: not known."""
    mark: str = ""
    """Footnote signs, explained in the table's notes (``*``: significant)."""
    best: bool = False
    """The best system of its column and section."""


@dataclass(frozen=True)
class Column:
    """One score."""

    title: str
    higher_is_better: bool | None = None
    """None: neither direction is better."""
    digits: int = 3
    task: str = ""
    """lm-eval's name of the task behind it."""
    metric: str = ""


@dataclass(frozen=True)
class Row:
    """One system, baseline or row of the paper."""

    label: str
    cells: tuple[Number | None, ...]
    """[n_columns]; None: nothing to show."""
    kind: str = "system"
    """``system``, ``baseline`` or ``paper`` (as printed there)."""
    section: str = ""
    """The LLM it belongs to; sections follow each other."""


@dataclass(frozen=True)
class Table:
    """A table of scores."""

    name: str
    """Short, of letters and digits: names files and anchors."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = field(default=())


def arrow(column: Column) -> str:
    """``↑`` or ``↓`` after a blank, or nothing."""
    return {True: " ↑", False: " ↓", None: ""}[column.higher_is_better]


def text_of(number: Number | None, column: Column) -> str:
    """``0.123 [0.10, 0.15]*``; ``–`` for nothing."""
    if number is None or math.isnan(number.value):
        return "–"
    interval = ""
    if not math.isnan(number.low):
        fewer = max(column.digits - 1, 0)
        interval = f" [{number.low:.{fewer}f}, {number.high:.{fewer}f}]"
    return f"{number.value:.{column.digits}f}{interval}{number.mark}"


def markdown(table: Table, escaped: bool = False) -> str:
    """Markdown, aligned so that it reads well in a terminal; the best of a section in bold.

    Args:
        escaped: labels, sections and notes are Markdown already; else they are anybody's text.
    """
    clean: Callable[[str], str] = str if escaped else inert
    rows = [["", *(f"{clean(column.title)}{arrow(column)}" for column in table.columns)]]
    for section, own in sections(table):
        if section:
            rows.append([f"*{clean(plain(section))}*", *[""] * len(table.columns)])
        rows += [
            [clean(_label(row)), *_cells(row, table, lambda text: f"**{text}**")] for row in own
        ]
    notes = ["", *(f"- {clean(plain(note))}" for note in table.notes)] if table.notes else []
    return "\n".join([grid(rows), *notes])


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Rows of Markdown, the head first, as an aligned table: a cell is one line and ends nowhere before."""
    cells = [[_BAR.sub(r"\1\\|", _printable(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) + " |" for r in cells
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def latex(table: Table) -> str:
    """A ``table`` environment for booktabs; the best of a section in bold, notes below."""
    heads = [_tex(column.title) + _TEX_ARROWS[column.higher_is_better] for column in table.columns]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{_tex(table.title)}}}",
        f"\\label{{tab:{table.name}}}",
        f"\\begin{{tabular}}{{l{'r' * len(heads)}}}",
        "\\toprule",
        " & ".join(["", *heads]) + " \\\\",
    ]
    for section, own in sections(table):
        lines.append("\\midrule")
        if section:
            lines.append(
                f"\\multicolumn{{{len(heads) + 1}}}{{l}}{{\\textit{{{_tex(section)}}}}} \\\\"
            )
        for row in own:
            cells = _cells(row, table, lambda text: f"\\textbf{{{text}}}", _tex)
            lines.append(" & ".join([_tex(_label(row)), *cells]) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    lines += [f"\\par\\footnotesize {_tex(note)}" for note in table.notes]
    return "\n".join([*lines, "\\end{table}", ""])


def as_csv(table: Table) -> str:
    """One line a cell, at full precision: section, row, kind, column, task, metric, value, low, high, n, best, mark."""
    rows = [_CSV]
    for row in table.rows:
        for column, number in zip(table.columns, row.cells, strict=True):
            if number is None or math.isnan(number.value):
                continue
            ends = ["" if math.isnan(end) else repr(end) for end in (number.low, number.high)]
            better = "" if column.higher_is_better is None else str(int(column.higher_is_better))
            rows.append(
                [table.name, row.section, row.label, row.kind, column.title, column.task, column.metric, better,
                 repr(number.value), *ends, str(number.n or ""), str(int(number.best)), number.mark]
            )  # fmt: skip
    return csv_text(rows)


_CSV = ["table", "section", "row", "kind", "column", "task", "metric", "higher_is_better", "value", "low", "high", "n",
        "best", "mark"]  # fmt: skip


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """CSV of rows of text, none of which a spreadsheet takes for a formula."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([map(_cell, row) for row in rows])
    return out.getvalue()


WRITERS: Mapping[str, Callable[[Table], str]] = {"md": markdown, "tex": latex, "csv": as_csv}
"""File suffix → the table as text."""


def sections(table: Table) -> list[tuple[str, list[Row]]]:
    """(section, its rows), in order."""
    found: dict[str, list[Row]] = {}
    for row in table.rows:
        found.setdefault(row.section, []).append(row)
    return list(found.items())


def _label(row: Row) -> str:
    return f"({row.label})" if row.kind == "baseline" else plain(row.label)


def _cells(
    row: Row, table: Table, bold: Callable[[str], str], clean: Callable[[str], str] = str
) -> list[str]:
    texts = [clean(text_of(n, c)) for n, c in zip(row.cells, table.columns, strict=True)]
    return [
        bold(text) if number is not None and number.best else text
        for text, number in zip(texts, row.cells, strict=True)
    ]


_BAR = re.compile(r"(?<!\\)((?:\\\\)*)\|")
"""A bar that is not escaped: after no backslash, or an even number of them."""


def plain(text: str) -> str:
    """On one line, without control characters."""
    return " ".join(_printable(text).split())


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def inert(text: str) -> str:
    """In Markdown neither a tag nor a link nor an image, which a page would fetch; else as it is."""
    return re.sub(r"\](?=[(\[:])", r"]\\", re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text))


def document(lines: Sequence[str]) -> str:
    """A whole Markdown text of ``lines`` (or blocks of them): whatever names in it hold, it has no tag, link or image."""
    own = [_printable(line) for block in lines for line in block.split("\n")]
    return inert("\n".join(own))


def code(text: str) -> str:
    """``text`` as a code span, which it cannot end."""
    return f"`{plain(text).replace('`', chr(39)) or ' '}`"


def fenced(text: str) -> str:
    """``text`` as a block of code, which it cannot end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _cell(text: str) -> str:
    """On one line; numbers as they are, other text not read as a formula by spreadsheets."""
    text = plain(text)
    try:
        float(text)
    except ValueError:
        # also where a spreadsheet takes semicolons for the borders of cells
        return re.sub(r"(^|;\s*)(?=[=+@＝＋－＠-])", r"\1'", text)
    return text


_TEX_ARROWS = {True: " $\\uparrow$", False: " $\\downarrow$", None: ""}
_TEX = {
    "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", "$": "\\$", "#": "\\#", "_": "\\_", "{": "\\{", "}": "\\}",
    "~": "\\textasciitilde{}", "^": "\\textasciicircum{}", "–": "--", "−": "$-$", "*": "$^{*}$", "→": "$\\to$",
    "↑": "$\\uparrow$", "↓": "$\\downarrow$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(c, c) for c in plain(text))


def best_of(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """``rows`` of one section with the best systems of every column marked; none where all are equal."""
    tops = [
        _top([row.cells[i] for row in rows if row.kind == "system"], c)
        for i, c in enumerate(columns)
    ]

    def marked(row: Row) -> Row:
        cells = [
            replace(c, best=True) if c and top is not None and c.value == top else c
            for c, top in zip(row.cells, tops, strict=True)
        ]
        return replace(row, cells=tuple(cells)) if row.kind == "system" else row

    return [marked(row) for row in rows]


def _top(cells: Sequence[Number | None], column: Column) -> float | None:
    values = {c.value for c in cells if c is not None and not math.isnan(c.value)}
    if column.higher_is_better is None or len(values) < 2:
        return None
    return max(values) if column.higher_is_better else min(values)
