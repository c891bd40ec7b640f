"""Tables as data: what is best, and the same numbers in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math
import re

import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.report.table import markdown as grid_of
from pluralism_eval.report.tabular import (
    Column,
    Number,
    Row,
    Table,
    as_csv,
    best_of,
    csv_text,
    latex,
    markdown,
    text_of,
)

UP, DOWN, NEITHER = Column("match", True), Column("J-S", False), Column("entropy", None)


def table() -> Table:
    rows = [
        Row("a", (Number(0.5, 0.4, 0.6, 10), Number(0.2), Number(1.0)), section="LLM_1"),
        Row("b", (Number(0.25, mark="*"), Number(0.1), None), section="LLM_1"),
        Row("=c|d\n", (Number(float("nan")), Number(0.1), Number(2.0)), section="LLM_1"),
    ]
    columns = (UP, DOWN, NEITHER)
    constant = Row("uniform", (Number(1 / 3), None, None), "baseline")
    return Table("t1", "50 % & more", columns, (constant, *best_of(rows, columns)), ("a_note",))


def test_the_best_of_a_section_by_each_columns_direction() -> None:
    best = [[bool(n and n.best) for n in row.cells] for row in table().rows]
    assert best == [[False] * 3, [True, False, False], [False, True, False], [False, True, False]]
    equal = [Row(name, (Number(0.5),)) for name in "ab"]
    assert not any(row.cells[0].best for row in best_of(equal, (UP,)) if row.cells[0])


def test_a_cell_in_words() -> None:
    assert text_of(Number(0.1234, 0.1, 0.155, mark="*"), UP) == "0.123 [0.10, 0.15]*"
    assert text_of(Number(51.25, 40, 60), Column("acc", True, 1)) == "51.2 [40, 60]"
    assert text_of(None, UP) == text_of(Number(math.nan), UP) == "–"


def test_markdown_is_aligned_and_escaped() -> None:
    lines = markdown(table()).splitlines()
    assert len({len(line) for line in lines[:6]}) == 1
    assert "| match ↑ " in lines[0]
    assert "J-S ↓" in lines[0]
    assert lines[2].startswith("| (uniform) ")
    assert "**0.500 [0.40, 0.60]**" in lines[4]
    assert lines[6].startswith("| =c\\|d ")
    assert lines[-1] == "- a_note"


def test_latex_escapes_what_is_special_there() -> None:
    text = latex(table())
    assert "\\caption{50 \\% \\& more}" in text
    assert "\\textit{LLM\\_1}" in text
    assert "b & 0.250$^{*}$ & \\textbf{0.100} & -- \\\\" in text
    assert "a\\_note" in text
    assert text.count("\\\\") == 1 + 1 + 4


def test_csv_holds_every_number_at_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(table()))))
    assert len(rows) == 8  # 12 cells, four of them empty
    third = next(row for row in rows if row["row"] == "uniform")
    assert (float(third["value"]), third["kind"], third["low"]) == (1 / 3, "baseline", "")
    assert {row["row"] for row in rows} == {"uniform", "a", "b", "'=c|d"}
    assert [row["best"] for row in rows if row["column"] == "J-S"] == ["0", "1", "1"]


HOSTILE = (
    "<script>alert(1)</script>", "![x](http://evil.example/x.png)", "[x](javascript:alert(1))", "![x][y]", "[y]: http://evil.example",
    "<img src=x>", "</td>", "<!-- ", "a | b", "a \\| b", "a \\\\| b", "a\nb | c", "\x1b[2J\x9b31m\u202e",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_in_markdown_hostile_text_is_neither_markup_nor_the_end_of_a_cell(text: str) -> None:
    row = Row(text, (Number(1.0),), section=text)
    table = Table("t", "t", (UP,), (row, Row("a", (Number(0.5),), section=text)), (text,))
    whole = markdown(table)
    plain_table = grid_of([["a", "b"], [text, text]])
    for found in (whole, plain_table):
        assert not re.search(r"<[a-z/!?]", found, re.IGNORECASE)
        assert not re.search(r"\][\[(:]", found)
        assert not set(found) & set("\x1b\x9b\u202e\r")
    lines = [line for line in whole.splitlines() if line.startswith("|")]
    for lines_of in (lines, plain_table.splitlines()):
        assert {len(cells(line)) for line in lines_of} == {2}
    assert len(lines) == 5


def cells(line: str) -> list[str]:
    """As GitHub divides a row: at bars after no backslash, or an even number of them."""
    return re.split(r"(?<!\\)(?:\\\\)*\|", line)[1:-1]


@pytest.mark.parametrize(
    "text",
    [
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-1+cmd",
        "@SUM(1)",
        "\t=1",
        "\r\n=1",
        "＝1+1",
        "a;=1+1",
        "a; @x",
        "a;-1+x",
    ],
)
def test_in_csv_no_text_is_a_formula(text: str) -> None:
    (row,) = csv.reader(io.StringIO(csv_text([[text, "-0.5", "1e-3"]])))
    assert row[1:] == ["-0.5", "1e-3"]  # numbers stay numbers
    for cell in row[0].split(";"):
        assert not re.match(r"\s*[=+@＝＋－＠-]", cell)


@pytest.mark.parametrize(
    "text",
    ["\\input{/etc/passwd}", "\\write18{id}", "%", "$x$", "a & b \\\\ c", "{", "^^5c", "~#_"],
)
def test_in_latex_no_text_is_a_command(text: str) -> None:
    row = Row(text, (Number(1.0),), section=text)
    own = latex(Table("t", text, (Column(text, True),), (row,), (text,)))
    given = latex(
        Table("t", "X", (Column("X", True),), (Row("X", (Number(1.0),), section="X"),), ("X",))
    )
    bare = {c: own.count(c) - len(re.findall(rf"\\{re.escape(c)}", own)) for c in "&%$#_^~"}
    assert bare == {
        c: given.count(c) - len(re.findall(rf"\\{re.escape(c)}", given)) for c in "&%$#_^~"
    }
    commands = set(re.findall(r"\\[A-Za-z]+", own)) - set(re.findall(r"\\[A-Za-z]+", given))
    assert commands <= {"\\textbackslash", "\\textasciitilde", "\\textasciicircum"}


@pytest.mark.parametrize("writer", [markdown, latex, as_csv])
def test_control_characters_reach_no_file(writer: object) -> None:
    row = Row("a\x00\x1b[31m\u202e", (Number(1.0),))
    text = writer(Table("t", "t\x07", (UP,), (row,)))  # type: ignore[operator]
    assert not set(text) & set("\x00\x1b\u202e\x07")


def test_an_error_shows_control_characters_instead_of_sending_them() -> None:
    shown = str(PluralismError("name 'a\x1b[2J\x9b\u202e' is\n  - ü: \ttwo\r"))
    assert shown == "name 'a\\x1b[2J\\x9b\\u202e' is\n  - ü: \\ttwo\\r"
