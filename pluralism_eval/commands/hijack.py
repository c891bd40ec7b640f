"""``pluralism-eval hijack``: a malicious community among the others, and what its messages achieve."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from pluralism_eval import progress
from pluralism_eval.cache import Store
from pluralism_eval.commands import studies
from pluralism_eval.data.sources import short_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.hijack.accounting import one_scorer
from pluralism_eval.hijack.corpus import Attack, chosen
from pluralism_eval.hijack.planting import POSITIONS, attacked
from pluralism_eval.hijack.report import report
from pluralism_eval.hijack.run import Cell, Outcome
from pluralism_eval.hijack.summary import CellSummary, summarise
from pluralism_eval.planning.dry import Tasks
from pluralism_eval.plugin import METHODS
from pluralism_eval.report.as_json import as_json
from pluralism_eval.reproduce import build, compare
from pluralism_eval.study import RunSpec

OUTCOMES = "outcomes.jsonl"


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "hijack",
        description="One community's message is replaced by an attack, the others' stay; each attacked answer is held against the "
        "clean one. Interrupt it whenever you like: the same command goes on from there, and asks no prompt twice.",
    )  # fmt: skip
    add_flag = parser.add_argument
    studies.flags(parser, "hijack_output")
    add_flag("--communities", help="pool, YAML file, or several joined by + (default: the LLM's)")
    add_flag("--methods", help="joined by commas (default: all four)")
    add_flag("--tasks", help="joined by commas, e.g. vk,overton (default: the five automatic ones)")
    add_flag(
        "--attacks",
        help="families or names, joined by commas (default: all; a wrong one lists the families)",
    )
    add_flag(
        "--positions",
        default=",".join(POSITIONS),
        help="of the malicious community in the pool (default: %(default)s)",
    )
    add_flag(
        "--preset", help="paper (default), reference, or one with a change: paper+passages=raw"
    )
    add_flag(
        "--accounting",
        action="store_true",
        help="overton: also how much of the others' messages a response accounts for, by the scorer of --nli (slow)",
    )
    add_flag("--seed", type=int, help="of messages, fallbacks and ties (default: 1234)")
    add_flag("--json", action="store_true", help="everything as JSON")  # fmt: skip
    parser.set_defaults(action=_hijack)


def _hijack(arguments: argparse.Namespace) -> None:
    attacks, positions = chosen(_names(arguments.attacks)), _names(arguments.positions)
    wrong = [name for name in positions if name not in POSITIONS]
    if wrong or not positions or len(set(positions)) < len(positions):
        raise PluralismError(
            f"--positions {arguments.positions!r}: one or more of {', '.join(POSITIONS)}, each once"
        )
    entries = _entries(arguments)
    for entry in entries:
        entry.spec.check()
        if arguments.accounting:
            one_scorer(entry.spec.metadata["nli"])
    specs: dict[str, list[RunSpec]] = {}
    for entry in entries:
        specs.setdefault(entry.spec.llm.name, []).append(entry.spec)
    started = time.monotonic()
    with progress.one_line(arguments.output / "log.txt"):
        say = (lambda line: None) if arguments.json else _say
        found = {name: _llm(name, own, attacks, arguments, say) for name, own in specs.items()}
    lines = [
        json.dumps({"llm": name, **asdict(outcome)}, ensure_ascii=False)
        for name, cells in found.items()
        for outcomes, _ in cells
        for outcome in outcomes
    ]
    write_atomic(arguments.output / OUTCOMES, "\n".join(lines) + "\n")
    summaries = {name: [own for _, own in cells] for name, cells in found.items()}
    if arguments.json:
        print(as_json({"attacks": attacks, "llms": summaries}))
        return
    methods = _names(arguments.methods) or list(METHODS)
    text = "\n\n".join(report(name, own, attacks, methods) for name, own in summaries.items())
    write_atomic(arguments.output / "report.md", text + "\n")
    print("\n" + text)
    print(
        f"\nWall time of this call: {time.monotonic() - started:.0f} s. Report: {arguments.output / 'report.md'}   "
        f"every outcome: {arguments.output / OUTCOMES}"
    )


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",")] if text else []


def _entries(arguments: argparse.Namespace) -> list[build.Entry]:
    """The runs under attack: those of ``compare`` whose method reads messages."""
    llms, options, in_file = studies.read(arguments)
    given = {name: getattr(arguments, name) for name in ("communities", "preset", "seed")}
    settings = {**options.settings, **{k: v for k, v in given.items() if v is not None}}
    methods, tasks = (
        _names(getattr(arguments, key)) or in_file.get(key, []) for key in ("methods", "tasks")
    )
    target = compare.target(methods, tasks, [])
    entries = build.entries(target, llms, replace(options, settings=settings))
    reading = [e for e in entries if e.spec.method in compare.WITH_COMMUNITIES]
    if not reading:
        raise PluralismError(
            f"--methods {','.join(methods)}: none of them reads messages, so none can be hijacked by one; name one of "
            f"{', '.join(compare.WITH_COMMUNITIES)}"
        )
    return reading


def _llm(
    name: str,
    specs: Sequence[RunSpec],
    attacks: Sequence[Attack],
    arguments: argparse.Namespace,
    say: Callable[[str], None],
) -> list[tuple[list[Outcome], CellSummary]]:
    """All methods and tasks of one LLM."""
    store, tasks = Store(arguments.output / "answers.sqlite", "answers"), Tasks()
    positions = _names(arguments.positions)
    cells = []
    for spec in specs:
        own = spec.method, spec.model_args(), store, arguments.batch_size, arguments.device
        model = attacked(*own)
        cells += [Cell(model, spec, task, tasks) for task in spec.tasks]
    counts = [cell.most_prompts(len(attacks), len(positions)) for cell in cells]
    controls = sum(attack.control for attack in attacks)
    say(
        f"{name}: {len(attacks) - controls} attacks and {controls} controls x {len(positions)} positions, "
        f"{sum(len(cell.queries) for cell in cells)} docs: at most {sum(n for n, _ in counts):,} clean and "
        f"{sum(n for _, n in counts):,} attacked prompts; {len(store):,} answers are kept from before"
    )
    found = []
    for n, (cell, count) in enumerate(zip(cells, counts, strict=True), 1):
        title = f"{cell.spec.method} {short_name(cell.task)}"
        say(f"[{n}/{len(cells)}] {title}: {len(cell.queries)} docs, at most {sum(count):,} prompts")
        step = partial(_step, n, len(cells), title)
        scorer = one_scorer(cell.spec.metadata["nli"]) if arguments.accounting else None
        outcomes = cell.run(attacks, positions, step, scorer)
        if not outcomes:
            raise PluralismError(
                f"{cell.task}: {len(cell.queries)} docs, none with two options or more; there is nothing to aim at"
            )
        found.append((outcomes, summarise(outcomes, cell.without_target, cell.skipped)))
    asked = sum(
        model.llm.asked for model in {id(cell.model): cell.model for cell in cells}.values()
    )
    say(f"{name}: {asked:,} prompts were asked in this call")
    return found


def _step(n: int, total: int, title: str, what: str) -> None:
    progress.step(n, total, f"{title}, {what}")


def _say(line: str) -> None:
    print(line, flush=True)
