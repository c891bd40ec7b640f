"""``pluralism-eval submit``: a finished run as a submission to the leaderboard."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pluralism_eval.leaderboard import submit
from pluralism_eval.results import read_run


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("submit")
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="its --output_path (--log_samples), or results file"
    )
    parser.add_argument("--name", default="", help="in the leaderboard (default: method and LLM)")
    parser.add_argument("--by", default="", metavar="WHO", help="who submits it")
    parser.add_argument("--note", default="", metavar="TEXT", help="what readers should know")
    parser.add_argument(
        "--output", type=Path, default=Path("results/submissions"), metavar="FOLDER",
        help="where submissions lie (default: results/submissions)",
    )  # fmt: skip
    parser.add_argument(
        "--no-samples", action="store_true",
        help="leave the samples out: it can then be verified only by whoever has them",
    )  # fmt: skip
    parser.add_argument("--data", help="the run's input files, if no longer where they were")
    parser.set_defaults(action=_submit)


def _submit(arguments: argparse.Namespace) -> None:
    made = submit.make(
        read_run(arguments.run), arguments.name, arguments.by, arguments.note,
        not arguments.no_samples, arguments.data,
    )  # fmt: skip
    folder = submit.write(made, arguments.output)
    print(f"{folder}: {made.content['name']}")
    for task, part in made.content["tasks"].items():
        docs, n = part["docs"], len(part["scores"]) + len(part["baselines"])
        partial = " (partial)" if docs["n"] < docs["of"] else ""
        print(
            f"  {task}: {n} scores recomputed from the samples and equal to the results file; "
            f"docs: {docs['n']:,} of {docs['of']:,}{partial}, data: {part['input']['data']}"
        )
    size = sum(len(content) for content in made.packed.values())
    print(f"  samples: {size:,} bytes in {len(made.packed)} files" if size else "  samples: not included")  # fmt: skip
