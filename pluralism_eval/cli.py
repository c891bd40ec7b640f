"""``pluralism-eval``: run and demo here, the other commands in ``commands``."""

from __future__ import annotations

import argparse
import errno
import os
import sqlite3
import sys
from importlib import import_module
from pathlib import Path

from pluralism_eval import __version__
from pluralism_eval.commands import COMMANDS
from pluralism_eval.errors import PluralismError
from pluralism_eval.secrets import guard


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status. Bad input ends in one line, not in a traceback."""
    guard()
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["run"]:
        return _run(given[1:])
    arguments = _parser(given).parse_args(given)
    try:
        arguments.action(arguments)
        sys.stdout.flush()  # here a full disk can still be told
    except PluralismError as error:
        print(f"pluralism-eval: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _interrupted()
    except BrokenPipeError:  # `pluralism-eval score ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG):
            raise
        where = repr(error.filename) if error.filename else "what it writes (output redirected?)"
        print(f"pluralism-eval: {where} cannot be written: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return 0


def _parser(given: list[str]) -> argparse.ArgumentParser:
    """Knows the flags of the command among the arguments ``given``; of the others, their names."""
    parser = argparse.ArgumentParser(
        prog="pluralism-eval", description="Modular Pluralism: methods, community LMs, benchmark."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    commands.add_parser(
        "run",
        help="lm_eval run with our models and tasks, without the import hook (same flags)",
        add_help=False,
    )

    demo = commands.add_parser(
        "demo", help="all tasks, all methods, on the embedded model and the sample data"
    )
    demo.add_argument("--limit", type=int, default=4, help="docs per task, from 2 (default: 4)")
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("demo_output"),
        help="folder for results (default: demo_output)",
    )
    demo.set_defaults(action=_demo)

    asked = next((argument for argument in given if not argument.startswith("-")), "")
    for module, own in COMMANDS.items():
        if asked in own:
            import_module(f"pluralism_eval.commands.{module}").add(commands)
            continue
        for name, text in own.items():
            commands.add_parser(name, help=text)
    return parser


def _run(rest: list[str]) -> int:
    from pluralism_eval import plugin

    plugin.register()
    from lm_eval.__main__ import cli_evaluate

    from pluralism_eval.results import lm_eval_saves
    from pluralism_eval.transcript import output_folder

    sys.argv = ["lm-eval", "run", *rest]
    try:
        with lm_eval_saves(output_folder()):
            cli_evaluate()
    except PluralismError as error:
        print(f"pluralism-eval: {error}", file=sys.stderr)
        return 2
    except sqlite3.DatabaseError as error:
        print(
            f"pluralism-eval: a database of lm-eval cannot be used: {error}. Make room if the disk is full; if the file of "
            "--use_cache is damaged, remove PATH_rank*.db: our answers are not in it, but beside it",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return _interrupted()
    return 0


def _interrupted() -> int:
    print("pluralism-eval: interrupted; what was finished is kept", file=sys.stderr)
    return 130


def _demo(arguments: argparse.Namespace) -> None:
    if arguments.limit < 2:
        raise PluralismError(f"--limit {arguments.limit}: the demo needs at least 2 docs per task")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from pluralism_eval.demo import run_demo

    run_demo(arguments.limit, arguments.output)


if __name__ == "__main__":
    sys.exit(main())
