"""``pluralism-eval reproduce`` and ``pluralism-eval pools``: the paper's evidence on your own LLM."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pluralism_eval.commands import studies
from pluralism_eval.data.sources import long_name, short_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.json_files import read_json
from pluralism_eval.planning.rows import LLM, MESSAGES
from pluralism_eval.report import tabular
from pluralism_eval.report.as_json import as_json
from pluralism_eval.report.table import markdown, overview
from pluralism_eval.reproduce import build, cells, claims, extras, paper, patching, plan
from pluralism_eval.reproduce.targets import OURS, TARGETS, Row, Score, Target, target_of
from pluralism_eval.tasks import by_name

_PLAN = "plan.json"


def add(commands: Any) -> None:
    """Adds both subcommands."""
    reproduce = commands.add_parser("reproduce")
    reproduce.add_argument("target", nargs="?", help=", ".join(TARGETS))
    _common(reproduce)
    reproduce.set_defaults(action=_reproduce)
    pools = commands.add_parser("pools")
    pools.add_argument("pools", nargs="+", metavar="POOL", help="the first is what others change")
    pools.add_argument(
        "--tasks", default="globalopinionqa", help="joined by commas (default: globalopinionqa)"
    )
    _common(pools)
    pools.set_defaults(action=_pools)


def _common(parser: argparse.ArgumentParser) -> None:
    studies.flags(parser, "reproduce_output")
    add = parser.add_argument
    add("--judge", default="embedded", help="figure3: the judge (NAME:key=value;...)")
    add("--plan", action="store_true", help="what it would cost, from a pilot; then stop")
    add("--pilot", type=int, default=6, help="docs a task that a plan runs (default: 6)")
    add("--price-in", type=float, help="money for a million prompt tokens of the LLM")
    add("--price-out", type=float, help="money for a million generated tokens of the LLM")
    add("--tflops", type=float, help="peak of the device to plan for, in 10^12 FLOP/s")
    add("--utilisation", type=float, default=0.3, help="share of it that is reached (default: 0.3)")
    add("--json", action="store_true", help="everything as JSON")


def _reproduce(arguments: argparse.Namespace) -> None:
    if arguments.target is None:
        raise PluralismError(f"reproduce what? One of {', '.join(TARGETS)}")
    _go(target_of(arguments.target), arguments)


def _pools(arguments: argparse.Namespace) -> None:
    if len(arguments.pools) < 2:
        raise PluralismError(f"pools {arguments.pools[0]}: at least two are compared")
    tasks = [long_name(short_name(task)) for task in arguments.tasks.split(",")]
    scores = tuple(Score(task, task, by_name(task).columns[0].metric, ()) for task in tasks)
    rows = tuple(Row(pool, OURS, "", pool) for pool in arguments.pools)
    title = "Pools compared on the same docs"
    _go(Target("pools", title, rows, scores, extra="patching"), arguments)


def _go(target: Target, arguments: argparse.Namespace) -> None:
    llms, options, given = studies.read(arguments)
    if given:
        raise PluralismError(
            f"--study {str(arguments.study)!r}: {', '.join(given)} are for compare only"
        )
    found = build.entries(target, llms, options)
    folder, runs = arguments.output / target.name, arguments.output / "runs"
    prices = plan.Prices(
        arguments.price_in, arguments.price_out, arguments.tflops, arguments.utilisation
    )
    if arguments.plan:
        _plan(found, folder, runs, arguments, options, prices)
        return
    done = build.run_all(found, runs, options, report=_progress)
    _report(target, done, folder, arguments)


def _progress(line: str) -> None:
    print(line, flush=True)


# ---------------------------------------------------------------------- plan


def _plan(
    found: Sequence[build.Entry],
    folder: Path,
    runs: Path,
    arguments: argparse.Namespace,
    options: build.Options,
    prices: plan.Prices,
) -> None:
    specs = [entry.spec for entry in found]
    made = plan.make_plan(specs, runs, arguments.pilot, options)
    written = plan.as_json(made, prices)
    write_atomic(folder / _PLAN, json.dumps(written, indent=1))
    if arguments.json:
        print(json.dumps(written, indent=1))
        return
    print(markdown(plan.rows(made)))
    llm, communities = made.total(LLM), made.total(MESSAGES)
    print(
        f"\nLLM: {llm.calls:,} calls, {llm.prompt_tokens:,} prompt and {llm.new_tokens:,} new tokens\n"
        f"Communities: {communities.calls:,} messages to write, {communities.prompt_tokens:,} prompt and "
        f"{communities.new_tokens:,} new tokens (those of the pilot are in the store)"
    )
    hours, money = plan.hours(made, prices), plan.money(made, prices)
    device = (
        f"{arguments.tflops} TFLOP/s at {arguments.utilisation:.0%}"
        if arguments.tflops
        else "this device, by the pilot"
    )
    print(
        f"Time: {'unknown' if hours is None else f'{hours:.2f} hours'} ({device}; entailment not included)"
    )
    print(
        f"Money: {money:.2f}" if money is not None else
        "Money: give --price-in and --price-out (per million tokens of the LLM) for an API"
    )  # fmt: skip
    print(f"The pilot ran {arguments.pilot} docs a task; without --plan everything is run.")


# ---------------------------------------------------------------------- report


def _report(
    target: Target, done: Sequence[Any], folder: Path, arguments: argparse.Namespace
) -> None:
    found = build.cells_of(target, done)
    changes = build.patches_of(target, done) if target.extra == "patching" else {}
    lines = [f"# {target.name}: {target.title}", ""]
    for llm, runs in build.tables_of(target, done).items():
        lines += [f"{llm}:", "", tabular.markdown(overview(runs)), ""]
    if found and target.name in paper.tables():
        lines += ["Ours beside the paper's:", "", markdown(cells.rows(found)), ""]
        lines += [f"{n}. {reason}" for reason, n in cells.reason_numbers(found).items()]
        lines += [
            "- in every cell: prompts are worded by us where the paper prints no words, and options are read over the "
            "whole vocabulary"
        ]
        lines += [f"- about the paper: {note}" for note in paper.notes(target.name)]
    for llm, by_task in changes.items():
        for task, rows in by_task.items():
            lines += ["", f"{llm}, {task}: changes from the first pool", ""]
            lines += [markdown(patching.rows(rows)), ""]
    lines += claims.lines(target.name, found, changes)
    lines += _extra(target, done, arguments)
    lines += ["", *_used(done, folder)]
    text = tabular.document(lines) + "\n"
    write_atomic(folder / "report.md", text)
    if not arguments.json:
        print(text)
        print(f"Report: {folder / 'report.md'}   runs: {arguments.output / 'runs'}/")
        return
    print(as_json({"target": target.name, "cells": found, "changes": changes}))


def _extra(target: Target, done: Sequence[Any], arguments: argparse.Namespace) -> list[str]:
    """What only figures 3 and 5 have."""
    if target.extra == "judge":
        found = extras.judged(done, arguments.judge)
        return ["", markdown(extras.judge_rows(found)), "", extras.judge_note(arguments.judge)]
    if target.extra == "faithfulness":
        lines = []
        for llm, rows in extras.faithful(done, arguments.nli).items():
            lines += ["", f"{llm}: messages and the response", "", markdown(rows), ""]
        return [*lines, extras.faithful_note()]
    return []


def _used(done: Sequence[Any], folder: Path) -> list[str]:
    """What the runs used, beside what was planned where a plan was made."""
    total = plan.used([run for _, run in done])
    file = folder / _PLAN
    planned = read_json(file) if file.is_file() else {}
    lines = []
    for kind, counts in total.items():
        shown = [f"{value:,} {name.replace('_', ' ')}" + (
            f" (planned {planned[kind][name]:,})" if kind in planned else ""
        ) for name, value in counts.as_dict().items()]  # fmt: skip
        lines.append(f"- used by the {kind}: {', '.join(shown)}")
    return lines
