"""``pluralism-eval``: run, demo, train, perplexity."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pluralism_eval import __version__
from pluralism_eval.commands import communities, messages
from pluralism_eval.errors import PluralismError


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status. Bad input ends in one line, not in a traceback."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["run"]:
        return _run(given[1:])
    arguments = _parser().parse_args(given)
    try:
        arguments.action(arguments)
    except PluralismError as error:
        print(f"pluralism-eval: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
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

    train = commands.add_parser("train", help="train a community LM (LoRA) on a corpus")
    train.add_argument("--corpus", type=Path, required=True, help='JSON Lines with {"text": ...}')
    train.add_argument(
        "--base", default="embedded", help="base model: Hub id, folder or embedded (default)"
    )
    train.add_argument("--name", required=True, help="name of the community")
    train.add_argument("--output", type=Path, required=True, help="folder of the adapter")
    train.add_argument(
        "--recipe", choices=("paper", "small"), default="paper", help="default: the paper's"
    )
    train.add_argument("--seed", type=int, default=0)
    train.set_defaults(action=_train)

    matrix = commands.add_parser(
        "perplexity", help="held-out perplexity of every adapter on every corpus"
    )
    matrix.add_argument(
        "--adapters", type=Path, required=True, help="folder with one adapter folder a community"
    )
    matrix.add_argument("--corpora", type=Path, required=True, help="folder with <community>.jsonl")
    matrix.add_argument("--base", default="embedded")
    matrix.set_defaults(action=_perplexity)
    communities.add(commands)
    messages.add(commands)
    return parser


def _run(rest: list[str]) -> int:
    from pluralism_eval import plugin

    plugin.register()
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["lm-eval", "run", *rest]
    try:
        cli_evaluate()
    except PluralismError as error:
        print(f"pluralism-eval: {error}", file=sys.stderr)
        return 2
    return 0


def _demo(arguments: argparse.Namespace) -> None:
    if arguments.limit < 2:
        raise PluralismError(f"--limit {arguments.limit}: the demo needs at least 2 docs per task")
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from pluralism_eval.demo import run_demo

    run_demo(arguments.limit, arguments.output)


def _train(arguments: argparse.Namespace) -> None:
    from pluralism_eval.train import RECIPES, train

    record = train(
        arguments.corpus,
        arguments.base,
        arguments.name,
        arguments.output,
        RECIPES[arguments.recipe],
        arguments.seed,
    )
    ppl = record["held_out_perplexity"]
    print(
        f"{arguments.name}: held-out perplexity {ppl['base']:.1f} (base) -> {ppl['adapter']:.1f}; saved in {arguments.output}"
    )


def _perplexity(arguments: argparse.Namespace) -> None:
    from pluralism_eval.report.table import markdown
    from pluralism_eval.train import perplexity_matrix

    corpora = {path.stem: path for path in sorted(arguments.corpora.glob("*.jsonl"))}
    adapters = {
        name: arguments.adapters / name for name in corpora if (arguments.adapters / name).is_dir()
    }
    if not adapters:
        raise PluralismError(
            f"--adapters {arguments.adapters}: no folder named after one of {', '.join(corpora) or 'no corpus'}"
        )
    table = perplexity_matrix(adapters, corpora, arguments.base)
    rows = [["held-out text of", *corpora]]
    rows += [[name, *(f"{values[c]:.1f}" for c in corpora)] for name, values in table.items()]
    print(markdown(rows))


if __name__ == "__main__":
    sys.exit(main())
