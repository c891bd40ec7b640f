"""The paper's printed numbers as rows beside submissions: reported, not verified, never ranked."""

from __future__ import annotations

from collections.abc import Sequence

from pluralism_eval.report.tabular import Column, Number, Row
from pluralism_eval.reproduce import paper
from pluralism_eval.reproduce.cells import path_of
from pluralism_eval.reproduce.targets import TARGETS

TABLES = ("table1", "table2", "table3", "table7", "table8", "table9", "table10")
"""Those with a score that has a column here."""


def rows(columns: Sequence[Column]) -> list[Row]:
    """One row an LLM and method of the paper, by LLM; fractions where it prints percent."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    places = {(column.task, column.metric): i for i, column in enumerate(columns)}
    for name in TABLES:
        target = TARGETS[name]
        for llm in paper.models(name):
            for row in target.rows:
                for score in target.scores:
                    place = places.get((score.task, score.metric))
                    value = paper.printed(name, path_of(target, row, score, llm))
                    if place is not None and value is not None:
                        own = found.setdefault((llm, row.method), {})
                        own.setdefault(place, value / score.scale)
    return [
        Row(f"{method}, {_llm(llm)}", _cells(values, len(columns)), "paper")
        for (llm, method), values in sorted(found.items(), key=lambda item: item[0][0])
    ]


def _llm(name: str) -> str:
    model, _, alignment = name.partition("/")
    return f"{model}, {alignment or 'alignment not stated'}"


def _cells(values: dict[int, float], n: int) -> tuple[Number | None, ...]:
    return tuple(Number(values[i]) if i in values else None for i in range(n))


def notes() -> list[str]:
    """Where the rows come from, and what is known to be odd about the printed numbers."""
    odd = [f"{TARGETS[name].name}: {note}" for name in TABLES for note in paper.notes(name)]
    return [
        f"Reported: as printed in arXiv 2406.15951v2 ({', '.join(TABLES)}). Nobody has verified these rows, they have no "
        "intervals, and on which items and with which readout they were measured is not known in every detail; they "
        "are not ranked. Percentages are shown as shares, all rounded to three digits.",
        *(f"The paper's {note}" for note in odd),
    ]
