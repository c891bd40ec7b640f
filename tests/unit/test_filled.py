"""The paper's tables, filled in: numbers of the one source, baselines of the same docs, stars, labels."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.classification import balanced_accuracy
from pluralism_eval.report.tabular import Table
from pluralism_eval.reproduce import compare, filled, paper
from pluralism_eval.reproduce.targets import GOQA, MC, OQA, VK, Score
from pluralism_eval.results import Run
from pluralism_eval.scoring import score_file, scores_of

N = 80


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    """A run on 80 GlobalOpinionQA items of four countries, each answered by ``answer(i, gold)``."""
    import json

    rng = np.random.default_rng(7)
    countries = ["United States", "Germany", "Peru", "Nigeria"]
    items = [
        {
            "id": i, "question": f"Question {i // 4}?", "options": ["yes", "no", "maybe"],
            "attribute": countries[i % 4], "gold_distribution": rng.dirichlet([2, 1, 1]).tolist(),
        }
        for i in range(N)
    ]  # fmt: skip

    def make(
        name: str, answer: Callable[[int, list[float]], list[float]], llm: str = "m", pool: str = ""
    ) -> Run:
        rows = [
            row | {"pred_distribution": answer(i, row["gold_distribution"])}
            for i, row in enumerate(items)
        ]
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(rows))
        samples = score_file(file, GOQA).samples
        config: dict[str, Any] = {"pluralism": {"method": name}}
        return Run(name, file, config, {GOQA: {}}, {GOQA: samples}, [], llm, pool)

    return make


def uniform(i: int, gold: list[float]) -> list[float]:
    return [1 / 3] * 3


def close(i: int, gold: list[float]) -> list[float]:
    return [0.9 * g + 0.1 / 3 for g in gold]


def of(table: Table, label: str) -> dict[str, Any]:
    row = next(row for row in table.rows if row.label == label)
    return {c.title: n for c, n in zip(table.columns, row.cells, strict=True)}


def test_a_better_method_is_best_and_the_other_one_starred(run: Callable[..., Run]) -> None:
    runs = filled.labelled([run("vanilla", uniform), run("modular_pluralism", close)])
    assert list(runs) == ["vanilla", "modular_pluralism"]
    found = {table.name: table for table in filled.tables(runs)}
    assert set(found) == {"overview", "table3"}
    table = found["table3"]
    ours, other = of(table, "modular_pluralism"), of(table, "vanilla")
    own = {s.name: s for s in scores_of(runs["modular_pluralism"])[GOQA]}
    for title, metric in (("US", "jsd_united_states"), ("Ni", "jsd_nigeria"), ("Avg", "jsd")):
        got, s = ours[title], own[metric]
        assert (got.value, got.low, got.high, got.n) == (s.value, s.low, s.high, s.n)
        assert (got.best, got.mark, other[title].best, other[title].mark) == (True, "", False, "*")
    assert ours["US"].n == 20
    assert math.isnan(ours["Ja"].value)
    constant = of(table, "uniform")
    assert constant["US"].value == pytest.approx(other["US"].value)  # vanilla is uniform here
    assert constant["Ja"] is None
    assert any("(none does)" in note for note in table.notes) is False
    assert not any("constant answer" in note for note in table.notes)


def test_equal_methods_have_no_star_and_no_best(run: Callable[..., Run]) -> None:
    runs = filled.labelled([run("vanilla", uniform), run("modular_pluralism", uniform)])
    table = next(t for t in filled.tables(runs) if t.name == "table3")
    assert not any(n.mark or n.best for row in table.rows for n in row.cells if n)
    assert any("(none does)" in note for note in table.notes)
    assert any(
        note.startswith("no system is better than a constant answer in: US") for note in table.notes
    )


def test_other_docs_are_not_tested(run: Callable[..., Run]) -> None:
    a, b = run("vanilla", uniform), run("modular_pluralism", close)
    b.samples[GOQA].pop()
    table = next(t for t in filled.tables(filled.labelled([a, b])) if t.name == "table3")
    assert not any(n.mark for row in table.rows for n in row.cells if n)
    assert "docs: distributional_globalopinionqa vanilla 80, modular_pluralism 79" in table.notes


def test_labels_say_what_differs(run: Callable[..., Run]) -> None:
    m = "modular_pluralism"
    runs = [
        run(m, close, "x", "p"),
        run(m, close, "x", "q"),
        run(m, close, "y", "p"),
        run("moe", close, "x", "p"),
    ]
    assert list(filled.labelled(runs)) == [f"x: {m} (p)", f"x: {m} (q)", f"y: {m}", "x: moe"]
    sections = filled.by_llm(filled.labelled(runs))
    assert {llm: [line.label for line in own] for llm, own in sections.items()} == {
        "x": [f"{m} (p)", f"{m} (q)", "moe"], "y": [m],
    }  # fmt: skip
    same = [run(m, close), run(m, close)]
    assert list(filled.labelled(same)) == [m, f"{m} #2"]


def test_the_papers_rows_stand_beside_an_llm_of_its_name(run: Callable[..., Run]) -> None:
    runs = {"vanilla": run("vanilla", uniform, "llama2-13b/unaligned")}
    table = next(t for t in filled.tables(runs) if t.name == "table3")
    row = of(table, "vanilla, as printed")
    assert (
        row["US"].value
        == paper.tables()["table3"]["data"]["unaligned"]["vanilla"]["llama2-13b"]["US"]
    )
    assert len([r for r in table.rows if r.kind == "paper"]) == 4
    other = next(
        t for t in filled.tables({"vanilla": run("vanilla", uniform, "m")}) if t.name == "table3"
    )
    assert not [r for r in other.rows if r.kind == "paper"]


def test_balanced_accuracy_is_tested_as_the_mean_that_it_is() -> None:
    rng = np.random.default_rng(3)
    pairs = [(int(g), int(p)) for g, p in rng.integers(0, 3, (90, 2))]
    samples = [{"balanced_acc": pair, "balanced_acc_binary": (*pair, "paper")} for pair in pairs]
    for metric, kept in (
        ("balanced_acc", pairs),
        ("balanced_acc_binary", [p for p in pairs if p[0] != 2]),
    ):
        numbers = filled._numbers(samples, Score("", VK, metric, ()))
        assert numbers is not None
        assert np.mean([v for _, v in numbers]) == pytest.approx(balanced_accuracy(kept))
        assert [i for i, _ in numbers] == [i for i, p in enumerate(pairs) if p in kept]


def test_what_compare_runs() -> None:
    target = compare.target(["vanilla", "moe"], ["vk", MC], ["p", "q"])
    assert [(row.label, row.pool) for row in target.rows] == [
        ("vanilla", ""),
        ("moe (p)", "p"),
        ("moe (q)", "q"),
    ]
    assert target.tasks == (VK, MC)
    assert len(compare.target([], [], []).tasks) == 5
    with pytest.raises(
        PluralismError, match=r"(?s)4 problem\(s\).*'vanila' is unknown.*'x' is unknown.*twice.*no"
    ):
        compare.target(["vanila", "vanilla"], ["x", OQA, "opinionqa"], ["p"])
