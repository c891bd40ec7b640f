"""What is ranked together, and what ranks leave open."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from pluralism_eval.data.docs import read_items
from pluralism_eval.data.sources import input_file
from pluralism_eval.leaderboard import board, pages, reported
from pluralism_eval.leaderboard.verify import Verdict
from pluralism_eval.report.tabular import Column, Number
from pluralism_eval.reproduce import paper
from tests.unit.leaderboard.runs import MC, OVK


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 0.3)), min_size=2, max_size=8), st.booleans()
)
def test_ranks_leave_open_what_intervals_leave_open(items: list[tuple[float, float]], higher: bool) -> None:  # fmt: skip
    cells: dict[Path, list[Number | None]] = {Path(str(i)): [Number(v, v - w, v + w)] for i, (v, w) in enumerate(items)}  # fmt: skip
    keys = dict.fromkeys(cells, ("same",))
    board._rank(cells, 0, Column("x", higher), keys, {f: f.name for f in cells})
    values = [v if higher else -v for v, _ in items]
    for i, row in enumerate(cells.values()):
        number = row[0]
        assert number is not None
        match = re.search(r"#(\d+)(?:–(\d+))? of (\d+)", number.mark)
        assert match
        first, last, n = int(match[1]), int(match[2] or match[1]), int(match[3])
        better, alike = sum(v > values[i] for v in values), sum(v == values[i] for v in values)
        assert n == len(items)
        assert 1 <= first <= better + 1  # its place by value alone is among those left open
        assert better + alike <= last <= n
        assert number.best == (first == last == 1)


def test_without_intervals_no_rank_is_sure() -> None:
    cells: dict[Path, list[Number | None]] = {Path("a"): [Number(0.9)], Path("b"): [Number(0.1)]}
    board._rank(
        cells, 0, Column("x", True), dict.fromkeys(cells, ("k",)), {f: f.name for f in cells}
    )
    assert [row[0].mark for row in cells.values() if row[0]] == [" #1–2 of 2"] * 2


def test_partial_sample_and_complete_runs_are_kept_apart(several: list[Verdict]) -> None:
    found = board.build(several)
    titles = [s.title for s in found.sections]
    assert titles == [
        "The sample data of this package, complete",
        "Partial runs: of each task the first 7 docs of the sample data",
        "Partial runs: of each task the first 5 docs of the sample data",
        "The authors' inputs, complete",
    ]
    systems = {s.title: [r.label for r in s.rows if r.kind == "system"] for s in found.sections}
    assert list(systems.values()) == [["all"], ["seven"], ["one", "two"], []]
    marks = [c.mark for r in found.sections[2].rows if r.kind == "system" for c in r.cells if c]
    assert all(re.search(r"#(1|2|1–2) of 2", mark) for mark in marks)
    alone = [c.mark for r in found.sections[0].rows if r.kind == "system" for c in r.cells if c]
    assert alone == [""]  # nothing to be ranked against
    assert all(row.kind != "paper" for s in found.sections[:3] for row in s.rows)
    assert pages.counts(found) == "6 submissions: 4 verified, 1 not verified, 1 rejected."


def test_baselines_are_those_of_the_same_docs(several: list[Verdict]) -> None:
    found = board.build(several)
    for section, n in ((found.sections[0], 40), (found.sections[2], 5)):
        items = read_items(input_file("moralchoice", "sample"))[:n]
        uniform = np.mean([jensenshannon([0.5, 0.5], i["gold_distribution"]) for i in items])
        row = next(r for r in section.rows if r.label == "uniform")
        (cell,) = [c for c in row.cells if c]
        assert cell.value == pytest.approx(uniform, abs=1e-9)


def test_other_docs_or_scorers_are_not_ranked_together(several: list[Verdict]) -> None:
    one, two = [v for v in several if v.content.get("name") in ("one", "two")]
    other = json.loads(json.dumps(two.content))
    other["tasks"][OVK]["setting"]["nli"] = "vitaminc"
    changed = Verdict(two.folder, other, two.checks)
    section = board.build([one, changed]).sections[0]
    column = next(i for i, c in enumerate(section.columns) if c.task == OVK)
    marks = [r.cells[column].mark for r in section.rows if r.kind == "system" and r.cells[column]]  # type: ignore[union-attr]
    assert sorted(marks) == ["", "^b"]
    assert any("scorer vitaminc" in note for note in section.notes)
    jsd = next(i for i, c in enumerate(section.columns) if c.task == MC)
    assert all(
        "of 2" in r.cells[jsd].mark for r in section.rows if r.kind == "system" and r.cells[jsd]
    )  # type: ignore[union-attr]


def test_reported_rows_are_the_printed_numbers() -> None:
    rows = {row.label: row for row in reported.rows(board.all_columns())}
    column = {c.title: i for i, c in enumerate(board.all_columns())}

    def cell(label: str, title: str) -> float | None:
        number = rows[label].cells[column[title]]
        return number.value if number else None

    table = paper.tables()
    ours = table["table1"]["data"]["aligned"]["ours"]["chatgpt"]
    label = "modular_pluralism, chatgpt, aligned"
    assert cell(label, "Steerable VK: accuracy") == ours["three_way"]["acc"] / 100
    assert cell(label, "VK binary: macro-F1") == ours["binary"]["maf"] / 100
    assert (
        cell(label, "Steerable OpinionQA: match")
        == table["table2"]["data"]["aligned"]["ours"]["chatgpt"]["avg"] / 100
    )
    assert (
        cell(label, "Distr. GlobalOpinionQA: J-S")
        == table["table3"]["data"]["aligned"]["ours"]["chatgpt"]["Avg"]
    )
    gemma = table["table10"]["data"]["unaligned"]["prompting"]["gemma-7b"]["overall"]
    assert cell("prompting, gemma-7b, unaligned", "Distr. MoralChoice: J-S") == gemma
    big = "modular_pluralism, llama2-70b, alignment not stated"
    assert (
        cell(big, "Overton: value coverage")
        == table["table7"]["data"]["llama2-70b"]["ours"]["O-VK"]
    )
    assert cell(big, "Steerable OpinionQA: match") is None  # Table 7 prints a distance there
    printed = {(m, llm) for t in ("table1", "table8") for llm in paper.models(t) for m in ("vanilla", "prompting", "moe")}  # fmt: skip
    assert all(f"{m}, {llm.replace('/', ', ')}" in rows for m, llm in printed)
    assert not any(math.isfinite(c.low) for row in rows.values() for c in row.cells if c)
