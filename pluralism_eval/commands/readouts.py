"""``pluralism-eval readouts``: one model, one set of docs, its answers read in several ways."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from pluralism_eval import heard, listening
from pluralism_eval.data.sources import long_name, short_name
from pluralism_eval.distribution import read, total_variation
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.llm.harness import HarnessLLM
from pluralism_eval.llm.load import load_llm
from pluralism_eval.plugin import METHODS
from pluralism_eval.presets import get_preset
from pluralism_eval.prompts import Prompts
from pluralism_eval.report.table import markdown
from pluralism_eval.report.tabular import document
from pluralism_eval.results import Run
from pluralism_eval.settings import READOUTS, parse
from pluralism_eval.study import RunSpec, execute, parse_llm
from pluralism_eval.tasks import TASKS, by_name
from pluralism_eval.yaml_files import yaml_value

_COMPARED = tuple(name for name in READOUTS if name != "harness")


def _with_options() -> list[str]:
    """Short names of tasks whose answers are options."""
    return [task.short for task in TASKS.values() if not task.is_text]


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "readouts",
    )
    add = parser.add_argument
    add(
        "readouts",
        nargs="+",
        metavar="READOUT",
        help=f"of {', '.join(_COMPARED)}; others are compared to the first",
    )
    add(
        "--llm",
        default="embedded",
        help="embedded, openai:model=M;base_url=URL, hf:pretrained=X, ...; chat=true templates",
    )
    add(
        "--method", default="vanilla", help="vanilla (default), prompting, moe or modular_pluralism"
    )
    add(
        "--tasks",
        default="globalopinionqa",
        help=f"joined by commas, of {', '.join(_with_options())}",
    )
    add("--data", default="authors", help="authors (default), cleaned, sample or a folder")
    add("--limit", type=int, help="docs a task (default: all)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="more --model_args")
    add("--output", type=Path, default=Path("readouts_output"), help="folder of runs and report")
    add("--batch_size", help="as lm_eval's")
    add("--device", help="as lm_eval's")
    add("--json", action="store_true", help="everything as JSON")  # fmt: skip
    parser.set_defaults(action=_compare)


def _compare(arguments: argparse.Namespace) -> None:
    specs = _specs(arguments)
    for spec in specs:
        spec.check()
    own = {"llm": specs[0].llm.llm, "llm_args": dict(specs[0].llm.llm_args)}
    held = load_llm(parse("vanilla", own), arguments.batch_size, device=arguments.device)
    runs = {}
    for n, (name, spec) in enumerate(zip(arguments.readouts, specs, strict=True), 1):
        if not arguments.json:
            print(f"[{n}/{len(specs)}] {name}", flush=True)
        runs[name] = execute(spec, arguments.output, arguments.batch_size, arguments.device)
    hearing = {spec.label: _heard(spec, held, runs[spec.label]) for spec in specs}
    del held  # all runs shared it
    found = {task: compare(task, runs) for task in specs[0].tasks}
    for by_readout in found.values():
        for name, row in by_readout.items():
            row["listening"] = hearing[name]
    if arguments.json:
        print(json.dumps(found, indent=1))
        return
    lines = [f"# {arguments.llm}, {arguments.method}: readouts compared", ""]
    for task, by_readout in found.items():
        lines += [task, "", markdown(rows(task, by_readout)), ""]
    lines += [
        "- listening: how far the answer moves, of 1, with what a message names / with what it only argues for; – not measured",
        "- bounds: over all ways to share out the probability that the server did not show",
        "- sampling: standard deviation of the score over repeated sampling; a distance from few samples is too large as well",
        "- TV: mean total variation to the first readout's distribution, over docs that both read",
    ]
    text = document(lines) + "\n"
    write_atomic(arguments.output / "report.md", text)
    print("\n" + text)
    print(f"Report: {arguments.output / 'report.md'}   runs: {arguments.output}/")


def _heard(spec: RunSpec, llm: HarnessLLM, run: Run) -> dict[str, Any] | None:
    """How far the LLM moves with messages when it is read in this way; None where that is not measured."""
    settings = parse(spec.method, spec.model_args())
    if listening.unwanted(settings):
        return None
    chat = bool(settings.chat or spec.llm.chat)
    resolved = str(run.config["pluralism"]["readout_used"])
    way = replace(listening.way_of(llm, settings, resolved, []), chat=chat)
    preset = get_preset(settings.preset)
    row = listening.listening(llm, Prompts(settings.prompts), settings, preset, way)
    return row if heard.figures(row) else None


def _specs(arguments: argparse.Namespace) -> list[RunSpec]:
    wrong = [name for name in arguments.readouts if name not in _COMPARED]
    if wrong or len(arguments.readouts) < 2:
        raise PluralismError(
            f"readouts {' '.join(arguments.readouts)}: two or more of {', '.join(_COMPARED)}"
        )
    if arguments.method not in METHODS:
        raise PluralismError(f"--method {arguments.method!r}: one of {', '.join(METHODS)}")
    tasks = [short_name(task) for task in arguments.tasks.split(",")]
    other = [task for task in tasks if task not in _with_options()]
    if other:
        raise PluralismError(
            f"--tasks {arguments.tasks}: {other[0]} has no options to read; one of {', '.join(_with_options())}"
        )
    settings: dict[str, Any] = {}
    for pair in arguments.set:
        key, equals, value = pair.partition("=")
        if not equals or key == "readout":
            raise PluralismError(f"--set {pair!r}: KEY=VALUE, and not readout")
        settings[key] = yaml_value(value)
    llm = parse_llm(arguments.llm)
    return [
        RunSpec(
            label=name,
            method=arguments.method,
            llm=llm,
            tasks=tuple(map(long_name, tasks)),
            settings={**settings, "readout": name},
            metadata={"data": arguments.data, "nli": "embedded"},
            limit=arguments.limit,
        )
        for name in arguments.readouts
    ]


def compare(task: str, runs: dict[str, Run]) -> dict[str, dict[str, Any]]:
    """Readout → score, its standard error, bounds, sampling error, what could not be read, mean total
    variation to the first readout, and what it cost."""
    headline = by_name(task).columns[0].metric
    first = _distributions(next(iter(runs.values())), task)
    found = {}
    for name, run in runs.items():
        scores = {key.split(",")[0]: value for key, value in run.results[task].items()}
        own = _distributions(run, task)
        both = [doc for doc in first if first[doc][1] > 0 and own.get(doc, ([], 0))[1] > 0]
        used = run.config["pluralism"]
        found[name] = {
            "readout_used": used["readout_used"],
            "score": scores[headline],
            "stderr": scores[f"{headline}_stderr"],
            "lower": scores[f"{headline}_lower"],
            "upper": scores[f"{headline}_upper"],
            "sampling_error": scores[f"{headline}_sampling_error"],
            "option_mass": scores["option_mass"],
            "hidden_probability": scores["hidden_probability"],
            "unparsed": scores["unparsed"],
            "total_variation": fmean(total_variation(first[d][0], own[d][0]) for d in both)
            if both
            else math.nan,
            "docs_compared": len(both),
            "usage": used["usage"]["llm"],
        }
    return found


def _distributions(run: Run, task: str) -> dict[int, tuple[list[float], float]]:
    return {
        int(s["doc_id"]): read([float(r[0][0]) for r in s["resps"]]) for s in run.samples_of(task)
    }


def _moved(row: Any) -> str:
    found = heard.figures(row)
    return f"{found['quoted'].value:.2f} / {found['argued'].value:.2f}" if found else "–"


def rows(task: str, found: dict[str, dict[str, Any]]) -> list[Sequence[str]]:
    """Rows of text, the header first. Calls and tokens are of all the run's tasks."""
    name = by_name(task).columns[0].metric
    header = [
        "readout", "read by", f"{name} (± s.e.)", "bounds", "sampling", "option mass", "% unread", "TV", "calls",
        "tokens in", "tokens out", "listening",
    ]  # fmt: skip
    lines: list[Sequence[str]] = [header]
    for readout, row in found.items():
        usage = row["usage"]
        lines.append(
            [
                readout,
                row["readout_used"],
                f"{row['score']:.3f} ± {row['stderr']:.3f}",
                f"{row['lower']:.3f} to {row['upper']:.3f}",
                f"± {row['sampling_error']:.3f}" if row["sampling_error"] else "–",
                f"{row['option_mass']:.3f}",
                f"{row['unparsed']:.0%}",
                f"{row['total_variation']:.3f}",
                f"{usage['calls']:,}",
                f"{usage['prompt_tokens']:,}",
                f"{usage['new_tokens']:,}",
                _moved(row.get("listening")),
            ]
        )
    return lines
