"""``pluralism-eval verify``: is a submission what its samples say?"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.leaderboard.checks import How
from pluralism_eval.leaderboard.verify import UNPROVEN, Verdict, verify_each
from pluralism_eval.secrets import redact


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "verify",
        description=f"Exit status 0: all are verified; 1: one is not, or is rejected. {UNPROVEN}",
    )
    parser.add_argument(
        "submissions", nargs="+", type=Path, metavar="SUBMISSION", help="folder of a submission"
    )
    parser.add_argument(
        "--samples", nargs="+", type=Path, default=[], metavar="PATH",
        help="samples of a submission without: its samples_*.jsonl.gz, lm-eval's samples_*.jsonl, or a folder of them",
    )  # fmt: skip
    parser.add_argument(
        "--data", metavar="FOLDER",
        help="input files to compare docs and gold answers with (default: the sample, and what was downloaded)",
    )  # fmt: skip
    parser.add_argument(
        "--rescore", action="store_true",
        help="Overton: let the entailment scorer read the responses again (default: recorded verdicts)",
    )  # fmt: skip
    parser.add_argument(
        "--nli", metavar="SCORER", help="the same, with this scorer in place of the recorded name"
    )
    parser.set_defaults(action=_verify)


def _verify(arguments: argparse.Namespace) -> None:
    paths = {"SUBMISSION": arguments.submissions, "--samples": arguments.samples}
    raise_all(
        "verify",
        [f"{flag} {str(p)!r} does not exist" for flag, ps in paths.items() for p in ps if not p.exists()]
        + [f"SUBMISSION {str(p)!r} is a file; give the folder that holds it" for p in arguments.submissions if p.is_file()],
    )  # fmt: skip
    if arguments.samples and len(arguments.submissions) > 1:
        raise PluralismError(
            f"--samples belongs to one submission, {len(arguments.submissions)} are given; verify one at a time"
        )
    how = How(tuple(arguments.samples), arguments.data, arguments.rescore, arguments.nli)
    statuses = []
    for verdict in verify_each(arguments.submissions, how):
        _print(verdict)
        statuses.append(verdict.status)
    print(f"\n{UNPROVEN}")
    if set(statuses) != {"verified"}:
        sys.exit(1)


def _print(verdict: Verdict) -> None:
    print(f"{verdict.folder}")
    for check in verdict.checks:
        print(f"  {check.status:<9} {check.what}: {_line(check.seen)}".rstrip(": "))
        for problem in check.problems:
            print(f"            - {_line(problem)}")
    print(f"  => {verdict.status}", flush=True)


def _line(text: str) -> str:
    """On one line: what is shown was written by others."""
    return redact("".join(c if c.isprintable() else " " for c in text))
