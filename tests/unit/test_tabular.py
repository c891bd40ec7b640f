"""Tables as data: what is best, and the same numbers in Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import math

import pytest

from pluralism_eval.report.tabular import (
    Column,
    Number,
    Row,
    Table,
    as_csv,
    best_of,
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


@pytest.mark.parametrize("writer", [markdown, latex, as_csv])
def test_control_characters_reach_no_file(writer: object) -> None:
    row = Row("a\x00\x1b[31m\u202e", (Number(1.0),))
    text = writer(Table("t", "t\x07", (UP,), (row,)))  # type: ignore[operator]
    assert not set(text) & set("\x00\x1b\u202e\x07")
