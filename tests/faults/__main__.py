"""``python -m tests.faults``: faults injected into real commands, on the file system that you name."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from pluralism_eval import progress
from pluralism_eval.errors import PluralismError
from pluralism_eval.report.table import markdown
from pluralism_eval.secrets import guard
from tests.faults.chaos import damage, disk, kills, servers, writers
from tests.faults.chaos.server import Server
from tests.faults.chaos.tally import Tally, line, rows
from tests.faults.chaos.work import Work

KINDS = {
    "kills": (kills.inject, 12),
    "damage": (damage.inject, 3),
    "servers": (servers.inject, 3),
    "writers": (writers.inject, 1),
    "disk": (disk.inject, 1),
}
"""Kind → who injects it, and its share of the faults."""
_NOTES = 20


def main(given: list[str] | None = None) -> int:
    """The exit status."""
    guard()
    try:
        return _chaos(_arguments(given))
    except PluralismError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 2


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description="Runs this package's commands in a folder of its own below --folder, against a small server of its own "
        "on 127.0.0.1, and injects faults; then the same commands are typed again and their results compared with those "
        "of undisturbed ones. No model, no network and nothing outside that folder is used. Exit status 1 if anything "
        "is lost or silently wrong.",
    )  # fmt: skip
    flag = parser.add_argument
    flag(
        "--folder", type=Path, default=Path("."), help="on the file system to test (default: here)"
    )
    flag("--faults", type=int, default=100, help="about how many (default: 100)")
    flag("--seed", type=int, default=0, help="of all that is random (default: 0)")
    flag("--only", help=f"kinds of faults, joined by commas: {', '.join(KINDS)} (default: all)")
    flag("--commands", help="that meet them, joined by commas (default: all but train)")
    flag("--with-model", action="store_true", help="also train, with the embedded model (slow)")
    flag("--json", action="store_true", help="everything as JSON")
    flag("--keep", action="store_true", help="leave the folder when all went well, too")
    return parser.parse_args(given)


def _chaos(arguments: argparse.Namespace) -> int:
    """1 where something is lost or silently wrong, 130 where it was interrupted."""
    if sys.platform == "win32":
        raise PluralismError("this needs POSIX signals; run it on Linux or macOS")
    if arguments.faults < 1:
        raise PluralismError(f"--faults {arguments.faults}: at least 1")
    kinds = arguments.only.split(",") if arguments.only else list(KINDS)
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise PluralismError(f"--only {arguments.only}: {', '.join(unknown)} unknown. Allowed: {', '.join(KINDS)}")  # fmt: skip
    try:
        folder = Path(tempfile.mkdtemp(prefix="pluralism-faults-", dir=arguments.folder)).resolve()
    except OSError as error:
        raise PluralismError(
            f"--folder {str(arguments.folder)!r} cannot be used: {error}"
        ) from error
    started, before = time.monotonic(), signal.signal(signal.SIGTERM, _interrupt)
    found: list[Tally] = []
    interrupted, kept = False, arguments.keep
    try:
        _inject(arguments, kinds, folder, found)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        signal.signal(signal.SIGTERM, before)
        kept = kept or any(tally.lost + tally.wrong for tally in found)
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
    notes = [note for tally in found for note in tally.notes]
    seconds = time.monotonic() - started
    if arguments.json:
        told = {"seconds": round(seconds), "interrupted": interrupted, "line": line(found)}
        print(json.dumps({"kinds": [asdict(tally) for tally in found], **told}, indent=1))
    else:
        print(markdown(rows(found)) + "\n")
        print("".join(f"- {note}\n" for note in notes[:_NOTES]), end="")
        if len(notes) > _NOTES:
            print(f"- and {len(notes) - _NOTES} more (--json)")
        print(f"{seconds:.0f} s, --seed {arguments.seed}" + (f"; kept: {folder}" if kept else ""))
        print(line(found) + (", interrupted" if interrupted else ""))
    return 130 if interrupted else int(bool(notes))


def _inject(
    arguments: argparse.Namespace, kinds: list[str], folder: Path, found: list[Tally]
) -> None:
    """Adds a tally a kind to ``found``, each before its first fault."""
    names = arguments.commands.split(",") if arguments.commands else None
    shares = {kind: KINDS[kind][1] / sum(KINDS[k][1] for k in kinds) for kind in kinds}
    with (
        Server() as server,
        Work(folder, server, names, arguments.with_model) as work,
        progress.bar(arguments.faults, "undisturbed", "fault", None) as bar,
    ):
        work.prepare(bar.set_postfix_str)
        for kind in kinds:
            bar.set_description(kind)
            found.append(Tally(kind))
            share = max(1, round(arguments.faults * shares[kind]))
            chance = random.Random(f"{arguments.seed} {kind}")
            KINDS[kind][0](work, share, chance, found[-1], bar.update)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
