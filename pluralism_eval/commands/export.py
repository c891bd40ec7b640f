"""``pluralism-eval export``: finished runs as Inspect logs, Every Eval Ever records, Hub results and model cards."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.exports import card, every_eval, hub, inspect_logs, writing
from pluralism_eval.exports.facts import Exported, Facts, facts_of
from pluralism_eval.results import as_written, runs_in

FORMATS = ("inspect", "every-eval-ever", "hf", "model-card")


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("export")
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run with --log_samples, or a folder with several: --output_path, a study, a results file"
    )  # fmt: skip
    parser.add_argument(
        "--to", nargs="+", action="extend", required=True, choices=[*FORMATS, "all"], metavar="FORMAT",
        help=f"{', '.join(FORMATS)} or all",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("exports"), help="folder; one inside it for each format (default: exports)"
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite files that differ")
    parser.add_argument(
        "--model", default="", help="how the LLM is called, as DEVELOPER/NAME (default: the run's own name of it)"
    )  # fmt: skip
    parser.add_argument(
        "--inspect-format", choices=inspect_logs.FORMATS, default="eval", help="inspect: eval (packed; default) or json"
    )  # fmt: skip
    parser.add_argument("--organization", default=every_eval.UNKNOWN, help="every-eval-ever: who reports")  # fmt: skip
    parser.add_argument(
        "--relationship", choices=every_eval.RELATIONSHIPS, default="other",
        help="every-eval-ever: of the evaluator to the LLM's developer (default: other)",
    )  # fmt: skip
    parser.add_argument("--dataset", default="", help="hf: the benchmark dataset on the Hub, OWNER/NAME")  # fmt: skip
    parser.add_argument("--source-url", default="", help="hf: address of the logs or the report")
    parser.add_argument(
        "--into", type=Path, metavar="README.md", help="model-card: put the section into this card, between markers"
    )  # fmt: skip
    parser.set_defaults(action=_export)


def _export(arguments: argparse.Namespace) -> None:
    formats = FORMATS if "all" in arguments.to else tuple(dict.fromkeys(arguments.to))
    if arguments.into and "model-card" not in formats:
        raise PluralismError("--into belongs to --to model-card; add it")
    if "inspect" in formats:
        inspect_logs.check_installed()  # before minutes are spent on intervals
    found = {run.path: run for path in arguments.runs for run in runs_in(path)}
    with as_written(*found):
        runs = [facts_of(run, arguments.model) for run in found.values()]
        made = {name: _made(name, runs, arguments) for name in formats}
    for facts in runs:
        for lack in facts.lacks:
            print(f"{facts.run.path}: {lack}")
    files = {f"{name}/{path}": content for name, own in made.items() for path, content in own.files.items()}  # fmt: skip
    changed = writing.write(arguments.output, files, arguments.force)
    for name, own in made.items():
        folder = arguments.output / name
        new = sum(path.is_relative_to(folder) for path in changed)
        print(f"{name}: {len(own.files)} files in {folder}, {new} of them new or changed")
        for note in own.notes:
            print(f"  {note}")
    if arguments.into:
        words = "has a new section" if card.put_into(arguments.into, runs) else "is up to date"
        print(f"{arguments.into} {words}; its metadata is left alone, model-index is in {arguments.output / 'model-card'}")  # fmt: skip


def _made(name: str, runs: Sequence[Facts], arguments: argparse.Namespace) -> Exported:
    if name == "model-card":
        return card.export(runs)
    source = every_eval.Source(arguments.organization, arguments.relationship)
    place = hub.Place(arguments.dataset, arguments.source_url)
    one: dict[str, Callable[[Facts], Exported]] = {
        "inspect": lambda facts: inspect_logs.export(facts, arguments.inspect_format),
        "every-eval-ever": lambda facts: every_eval.export(facts, source),
        "hf": lambda facts: hub.export(facts, place),
    }
    return _together(name, runs, [one[name](facts) for facts in runs])


def _together(name: str, runs: Sequence[Facts], made: Sequence[Exported]) -> Exported:
    files: dict[str, bytes] = {}
    for facts, own in zip(runs, made, strict=True):
        twice = [path for path in own.files if path in files and files[path] != own.files[path]]
        if twice:
            raise PluralismError(
                f"{facts.run.path}: {name}/{twice[0]} is also written by another of these runs; export them one by one, "
                "each to its own --output"
            )
        files |= own.files
    return Exported(files, tuple(dict.fromkeys(note for own in made for note in own.notes)))
