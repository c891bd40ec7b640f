"""``pluralism-eval control simulate``: intervals and tests on benchmarks of which the truth is known."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import Any

from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.report.as_json import as_json

BENCHMARKS, DOCS = 1_000, "50,200,500"


def add_to(actions: Any) -> None:
    """Adds the action."""
    parser = actions.add_parser(
        "simulate",
        help="do the 95 %% intervals hold the truth, and how often do the tests err? without models, in minutes",
        description="Simulates benchmarks with clusters as in the released inputs and two methods whose true scores are known by "
        "formula, and puts them through the statistics of the reports. Writes simulated.md and simulated.json.",
    )  # fmt: skip
    flag = parser.add_argument
    flag("--benchmarks", type=int, default=BENCHMARKS, help="a score and number of docs (default: %(default)s)")  # fmt: skip
    flag("--docs", default=DOCS, help="numbers of docs, joined by commas (default: %(default)s)")
    flag("--seed", type=int, default=0, help="of all that is random (default: 0)")
    flag(
        "--output",
        type=Path,
        default=Path("control_output"),
        help="folder of the table (default: %(default)s)",
    )
    flag(
        "--measure",
        metavar="DATA",
        help="instead: print how docs hang together in these inputs (authors or a folder), which the simulation imitates",
    )
    flag("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(action=_simulate)


def _simulate(arguments: argparse.Namespace) -> None:
    from pluralism_eval.control.scores import measured
    from pluralism_eval.control.simulate import simulate
    from pluralism_eval.control.tables import document, table

    if arguments.measure:
        print(as_json(measured(arguments.measure)))
        return
    try:
        docs = [int(n) for n in arguments.docs.split(",")]
    except ValueError:
        raise PluralismError(
            f"--docs {arguments.docs!r}: whole numbers joined by commas, e.g. {DOCS}"
        ) from None
    started = time.monotonic()
    say = (lambda line: None) if arguments.json else _say
    found = simulate(arguments.benchmarks, docs, arguments.seed, say)
    folder = arguments.output
    write_atomic(folder / "simulated.md", document(found, _typed(arguments)))
    write_atomic(
        folder / "simulated.json", as_json({"command": _typed(arguments), "result": found}) + "\n"
    )
    if arguments.json:
        print(as_json(found))
        return
    print(f"\n{table(found)}\n")
    print(f"{time.monotonic() - started:.0f} s. Table: {folder / 'simulated.md'}")


def _typed(arguments: argparse.Namespace) -> str:
    """The command that makes this table again."""
    flags = {"benchmarks": BENCHMARKS, "docs": DOCS, "seed": 0, "output": None}
    given = [
        f"--{name} {shlex.quote(str(getattr(arguments, name)))}"
        for name, default in flags.items()
        if getattr(arguments, name) != default
    ]
    return " ".join(["pluralism-eval control simulate", *given])


def _say(line: str) -> None:
    print(line, flush=True)
