"""``pluralism-eval leaderboard``: all submissions verified, and the pages made of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.leaderboard import board, pages
from pluralism_eval.leaderboard.checks import How
from pluralism_eval.leaderboard.submit import folders
from pluralism_eval.leaderboard.verify import verify_each
from pluralism_eval.report.tabular import plain


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("leaderboard")
    parser.add_argument(
        "--submissions", type=Path, default=Path("results/submissions"), metavar="FOLDER",
        help="where they lie (default: results/submissions)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("results"), metavar="FOLDER",
        help="where the pages go (default: results)",
    )  # fmt: skip
    parser.add_argument("--data", metavar="FOLDER", help="input files to compare docs with")
    parser.set_defaults(action=_leaderboard)


def _leaderboard(arguments: argparse.Namespace) -> None:
    if not arguments.submissions.is_dir():
        raise PluralismError(
            f"--submissions {str(arguments.submissions)!r} is no folder; make a submission first (pluralism-eval submit RUN)"
        )
    verdicts = []
    for verdict in verify_each(folders(arguments.submissions), How(data=arguments.data)):
        why = "" if verdict.status == "verified" else f": {_first(verdict.reasons())}"
        print(f"{verdict.status}: {plain(verdict.folder.name)}{why}", flush=True)
        verdicts.append(verdict)
    found = board.build(verdicts)
    written = {
        "README.md": pages.as_markdown(found, arguments.output),
        "leaderboard.html": pages.as_html(found, arguments.output),
    }
    for name, text in written.items():
        write_atomic(arguments.output / name, text)
    print(f"{pages.counts(found)} Written: {', '.join(str(arguments.output / n) for n in written)}")


def _first(reasons: list[str]) -> str:
    text = plain((reasons or [""])[0])
    return text if len(reasons) < 2 else f"{text} (and {len(reasons) - 1} more)"
