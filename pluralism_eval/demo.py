"""The main job in small: all automatic tasks, all four methods, the embedded model, sample data; shown on one screen."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import isnan
from pathlib import Path
from typing import Any

from pluralism_eval import heard
from pluralism_eval.commands import compare as command
from pluralism_eval.distribution import likeliest
from pluralism_eval.report.tabular import plain
from pluralism_eval.reproduce import build, compare
from pluralism_eval.results import Run
from pluralism_eval.study import parse_llm
from pluralism_eval.tasks import GLOBALOPINIONQA, TASKS
from pluralism_eval.tasks.task import Task
from pluralism_eval.variants import named

_WIDTH = 80


def run_demo(limit: int, output: Path) -> None:
    """Run everything, print one screen, and leave results, samples, transcripts and the report.

    Args:
        limit: docs per task, from 2.
        output: folder; made if absent.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    target = compare.target([], [], [])
    options = build.Options(limit=limit)
    done, written = command.run(target, [parse_llm("embedded")], options, output, say=_quiet)
    runs = {run.name: run for run in done}
    lines = [
        f"{len(runs)} methods x {len(TASKS)} tasks x {limit} docs: SmolLM2-135M-Instruct and six community LMs.",
        *_hearing(runs["modular_pluralism"]),
        "",
        *scores(runs),
        f"{limit} docs a task show that everything runs, not which method is better.",
        "",
        *_example(runs),
        "",
        f"Report: {written.page}",
        "Next:   pluralism-eval compare --llm hf:pretrained=YOUR_MODEL",
    ]
    print("\n".join(lines))


def _quiet(_: str) -> None:
    """The log has it."""


def _hearing(run: Run) -> list[str]:
    """The instrument's check: does the LLM move with its messages?"""
    found = heard.figures(run.ours.get("listening"))
    return (
        textwrap.wrap(f"{heard.sentence(found)[:1].upper()}{heard.sentence(found)[1:]}.", _WIDTH)
        if found
        else []
    )


def scores(runs: Mapping[str, Run]) -> list[str]:
    """A line a method, a column a task: the first headline score of each."""
    rows = [["", *(task.head for task in TASKS.values())]]
    for name, run in runs.items():
        rows.append([name, *(_score(run, task) for task in TASKS.values())])
    return ["".join([row[0].ljust(18), *(cell.rjust(12) for cell in row[1:])]) for row in rows]


def _score(run: Run, task: Task) -> str:
    column = task.columns[0]
    samples = run.samples.get(task.name, [])
    values = [column.number(sample) for sample in samples] if column.number else []
    kept = [value for value in values if not isnan(value)]
    return f"{sum(kept) / len(kept):.3f}" if kept else "–"


def _example(runs: Mapping[str, Run]) -> list[str]:
    """The first question of one task: what the LLM says alone, what two communities say, and what becomes of it."""
    before, after = (_first(runs[name]) for name in ("vanilla", "modular_pluralism"))
    doc = next(iter(runs["vanilla"].samples[GLOBALOPINIONQA]))["doc"]
    options: Sequence[str] = doc["options"]
    question = doc["query"].split("\n")[0].removeprefix("Question: ")
    said = [(m["community"], " ".join(m["text"].split())) for m in after["messages"]]
    return [
        *textwrap.wrap(f"For example, {doc['group']}: {question}", _WIDTH)[:2],
        _line("vanilla", _top(before["distribution"], options)),
        *(_line(name, f'"{text}"') for name, text in _two(said, options)),
        _line("modular_pluralism", _top(after["distribution"], options)),
        _line("people", _top(doc["gold"], options)),
    ]


def _first(run: Run) -> dict[str, Any]:
    return next(line for line in run.transcript if line["task"] == GLOBALOPINIONQA)


def _two(said: Sequence[tuple[str, str]], options: Sequence[str]) -> list[tuple[str, str]]:
    """The first two messages that name different options; else the first and the last."""
    answers = [named(text, options)[:1] for _, text in said]
    pairs = [(i, j) for i, j in combinations(range(len(said)), 2) if answers[i] and answers[j]]
    i, j = next(((i, j) for i, j in pairs if answers[i] != answers[j]), (0, len(said) - 1))
    return [said[i], said[j]]


def _top(distribution: Sequence[float], options: Sequence[str]) -> str:
    best = likeliest(distribution)
    return f"{options[best]} ({distribution[best]:.2f})"


def _line(name: str, text: str) -> str:
    return f"  {name:<18}{textwrap.shorten(plain(text), _WIDTH - 20, placeholder=' ...')}"
