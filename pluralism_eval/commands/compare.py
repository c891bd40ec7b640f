"""``pluralism-eval compare``: all methods on all tasks for any LLM, and what follows from it."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pluralism_eval import progress
from pluralism_eval.commands import studies
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.judge import check_judge
from pluralism_eval.reproduce import build, compare, filled, output
from pluralism_eval.results import Run
from pluralism_eval.study import StudyLLM


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "compare",
        description="Interrupt it whenever you like: the same command goes on from there. Runs are shared with reproduce "
        "where their settings are equal and --output is the same.",
    )
    add_flag = parser.add_argument
    add_flag("--methods", help="joined by commas (default: all four)")
    add_flag(
        "--tasks", help="joined by commas, e.g. vk,moralchoice (default: the five automatic ones)"
    )
    add_flag("--pools", help="community pools, joined by commas (default: the LLM's)")
    studies.flags(parser, "compare_output")
    add_flag(
        "--judge", help="LLM judge of ours against each other method (Figure 3): NAME:key=value;..."
    )
    add_flag("--max-megabytes", type=float, default=30, help="of the page (default: 30)")
    parser.set_defaults(action=_compare)


def _compare(arguments: argparse.Namespace) -> None:
    llms, options, given = studies.read(arguments)
    names = {
        key: _names(getattr(arguments, key), given.get(key, []), key)
        for key in ("methods", "tasks", "pools")
    }
    go(
        compare.target(**names),
        llms,
        options,
        arguments.output,
        arguments.max_megabytes,
        arguments.judge,
    )


def _names(flag: str | None, in_file: Any, key: str) -> list[str]:
    found = flag.split(",") if flag else in_file
    if not isinstance(found, list) or not all(isinstance(name, str) and name for name in found):
        raise PluralismError(f"{key} {flag or in_file!r}: expected names")
    return found


def run(
    target: Any,
    llms: list[StudyLLM],
    options: build.Options,
    folder: Path,
    max_megabytes: float = 30,
    judge: str | None = None,
    say: Callable[[str], None] = print,
) -> tuple[list[Run], output.Written]:
    """Runs what is not finished yet and writes the report to ``folder``.

    Args:
        say: takes a line about each run as it begins.
    """
    if judge:
        check_judge(judge)
    entries = build.entries(target, llms, options)
    with progress.one_line(folder / "log.txt"):
        done = [r for _, r in build.run_all(entries, folder / "runs", options, report=say)]
        runs = filled.labelled(done)
        written = output.write(runs, folder, "Methods compared", options.nli, max_megabytes, judge)
    return done, written


def go(
    target: Any,
    llms: list[StudyLLM],
    options: build.Options,
    folder: Path,
    max_megabytes: float = 30,
    judge: str | None = None,
) -> output.Written:
    """:func:`run`, and prints its tables."""
    started = time.monotonic()
    done, written = run(target, llms, options, folder, max_megabytes, judge, _say)
    print("\n" + written.text)
    print(
        f"Wall time of this call: {time.monotonic() - started:.0f} s. Everything else that was said: {folder / 'log.txt'}"
    )
    print(
        f"Report: {written.page}   tables: {folder / 'tables'}/   figures: {folder / 'figures'}/   runs: {folder / 'runs'}/"
    )
    first = shlex.quote(str(done[-1].path.parent))
    print(
        "Next: open the report; publish a run with\n"
        f"      pluralism-eval submit {first}\n"
        "      or bring it where others look: pluralism-eval export " + first + " --to inspect"
    )
    return written


def _say(line: str) -> None:
    print(line, flush=True)
