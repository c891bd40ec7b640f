"""``pluralism-eval report``: one page, tables and plots from finished runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pluralism_eval import progress
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics.judge import check_judge
from pluralism_eval.plugin import METHODS
from pluralism_eval.reproduce import filled, output
from pluralism_eval.results import Run, as_written, runs_in

_ORDER = list(METHODS)


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "report",
    )
    flag = parser.add_argument
    flag(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="results file, --output_path of a run, or a folder of several runs",
    )
    flag(
        "--output", type=Path, default=Path("report_output"), help="folder (default: report_output)"
    )
    flag("--title", default="Modular Pluralism: report", help="of the page")
    flag(
        "--nli",
        help="scorer for which message entails which sentence (default: the run's own; none: not computed)",
    )
    flag(
        "--judge", help="LLM judge of ours against each other method (Figure 3): NAME:key=value;..."
    )
    flag(
        "--max-megabytes",
        type=float,
        default=30,
        help="of the page; examples beyond are left out, and it says so (default: 30)",
    )
    parser.set_defaults(action=_report)


def _report(arguments: argparse.Namespace) -> None:
    if not arguments.max_megabytes >= 1:
        raise PluralismError(f"--max-megabytes {arguments.max_megabytes}: at least 1")
    found: list[Run] = [run for path in arguments.runs for run in runs_in(path)]
    found.sort(key=lambda run: _ORDER.index(run.name) if run.name in _ORDER else len(_ORDER))
    paths = [run.path for run in found]
    if len(set(paths)) < len(paths):
        raise PluralismError(f"a run is given twice: {', '.join(map(str, paths))}")
    if arguments.judge:
        check_judge(arguments.judge)
    folder = arguments.output
    with progress.one_line(folder / "log.txt"), as_written(*paths):
        written = output.write(
            filled.labelled(found),
            folder,
            arguments.title,
            arguments.nli,
            arguments.max_megabytes,
            arguments.judge,
        )
    print(written.text)
    print(f"Report: {written.page}   tables: {folder / 'tables'}/   figures: {folder / 'figures'}/")
