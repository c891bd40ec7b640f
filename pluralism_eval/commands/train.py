"""``pluralism-eval train`` and ``pluralism-eval perplexity``."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from pluralism_eval.communities import registry
from pluralism_eval.corpora import read_corpus
from pluralism_eval.errors import PluralismError
from pluralism_eval.report.table import markdown
from pluralism_eval.report.tabular import plain

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def add(commands: Any) -> None:
    """Adds both subcommands."""
    train = commands.add_parser("train")
    train.add_argument(
        "--corpus",
        required=True,
        help=".jsonl, text (pieces parted by blank lines), folder of .txt, a dataset's id, or culturebank:asia "
        "(africa, europe, northamerica, southamerica)",
    )
    train.add_argument(
        "--column", default="text", help="of JSON Lines and datasets (default: text)"
    )
    train.add_argument("--split", default="train", help="of a dataset (default: train)")
    train.add_argument("--max-pieces", type=int, help="use the first so many pieces")
    train.add_argument(
        "--base", default="embedded", help="base model: Hub id, folder or embedded (default)"
    )
    train.add_argument("--name", required=True, help="name of the community")
    train.add_argument("--description", help="one line for the LLM that chooses a community")
    train.add_argument("--output", type=Path, help="folder of the adapter (default: adapters/NAME)")
    train.add_argument("--license", help="of the corpus (default: the dataset's own, else unknown)")
    train.add_argument(
        "--preset",
        choices=("paper", "small"),
        default="paper",
        help="paper (default): appendix B; small: for the embedded base and small corpora",
    )
    train.add_argument("--epochs", type=float, help="instead of the preset's")
    train.add_argument("--learning-rate", type=float, help="instead of the preset's")
    train.add_argument("--batch-size", type=int, help="blocks a step, instead of the preset's")
    train.add_argument("--block-size", type=int, help="tokens a block, instead of the preset's")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--restart", action="store_true", help="begin anew, do not resume")
    train.add_argument("--no-register", action="store_true", help="do not enter it in the registry")
    train.add_argument("--push-to-hub", metavar="REPO", help="upload the finished adapter")
    train.set_defaults(action=_train)

    matrix = commands.add_parser("perplexity")
    matrix.add_argument(
        "--adapters", type=Path, required=True, help="folder with one adapter folder a community"
    )
    matrix.add_argument("--corpora", type=Path, required=True, help="folder with <community>.jsonl")
    matrix.add_argument("--base", default="embedded")
    matrix.add_argument(
        "--pieces", type=int, help="of each corpus the first so many held-out pieces (default: all)"
    )
    matrix.add_argument(
        "--topics",
        type=int,
        default=0,
        metavar="N",
        help="also let each community speak about the first N held-out topics: can one tell who wrote a message, and does it "
        "name one option? (default: 0)",
    )
    matrix.set_defaults(action=_perplexity)


def _train(arguments: argparse.Namespace) -> None:
    from pluralism_eval.train import PRESETS, train

    name, base = arguments.name, arguments.base
    if not _NAME.fullmatch(name):
        raise PluralismError(f"--name {name!r}: letters, digits, _ and - are allowed")
    given = {
        field: getattr(arguments, field)
        for field in ("epochs", "learning_rate", "batch_size", "block_size")
        if getattr(arguments, field) is not None
    }
    recipe = replace(PRESETS[arguments.preset], **given)
    if arguments.push_to_hub:
        _check_login()
    if not arguments.no_register:
        registry.registered()  # a broken registry is found now, not after the training
    corpus = read_corpus(arguments.corpus, arguments.column, arguments.split, arguments.max_pieces)
    left_out = {"duplicates": corpus.duplicates, **corpus.left_out}
    print(
        f"{name}: {len(corpus.pieces)} pieces, {len(corpus.held_out)} of them held out; left out: "
        + ", ".join(f"{count} {reason}" for reason, count in left_out.items())
    )
    if base == "embedded" and arguments.preset == "paper":
        print("The preset paper is meant for 7B models; for the embedded base take --preset small.")
    output = arguments.output or Path("adapters") / name
    description = arguments.description or f"A community of people: {name.replace('_', ' ')}."
    record = train(
        corpus,
        base=base,
        name=name,
        output=output,
        recipe=recipe,
        description=description,
        licence=arguments.license or corpus.licence,
        seed=arguments.seed,
        restart=arguments.restart,
    )
    ppl = record["held_out_perplexity"]
    print(
        f"{name}: held-out perplexity {ppl['base']:.1f} (base) -> {ppl['adapter']:.1f}; saved in {output}"
    )
    if ppl["adapter"] >= ppl["base"]:
        print("It learned nothing: more epochs, a higher --learning-rate or more text may help.")
    show_messages(name, output, base)
    if arguments.push_to_hub:
        _push(output, arguments.push_to_hub)
    if not arguments.no_register:
        where = registry.register(
            name=name, description=description, base=base, adapter=str(output.resolve())
        )
        print(
            f"Registered in {where}\n"
            f"Check it:  pluralism-eval communities check {name}\n"
            f"Use it:    lm_eval --model modular_pluralism --model_args communities=POOL+{name} --tasks 'pluralism_*'"
        )


def show_messages(name: str, folder: Path, base: str) -> None:
    """Three messages of the community beside those of its base."""
    from pluralism_eval.voices import beside_base

    print("\nWhat it says now (the same seeds, with the adapter and without):")
    for prompt, bare, own in beside_base(name, folder, base):
        print(f"\n  {prompt.splitlines()[0]}")
        print(f"    base: {plain(bare)}\n    {name}: {plain(own)}")


def _check_login() -> None:
    from huggingface_hub import HfApi

    try:
        HfApi().whoami()
    except Exception as error:  # no token, refused, offline
        raise PluralismError(
            f"--push-to-hub: not logged in to the Hub ({type(error).__name__}); run `hf auth login` first"
        ) from error


def _push(output: Path, repository: str) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, exist_ok=True)
        found = api.upload_folder(
            repo_id=repository, folder_path=str(output), ignore_patterns=["checkpoints/*"]
        )
    except Exception as error:
        raise PluralismError(
            f"--push-to-hub {repository!r} failed ({type(error).__name__}: {error}); the adapter is in {output}, "
            "the same command tries again"
        ) from error
    print(f"Uploaded: {found}")


def _perplexity(arguments: argparse.Namespace) -> None:
    from pluralism_eval.train import perplexity_matrix

    corpora = {path.stem: path for path in sorted(arguments.corpora.glob("*.jsonl"))}
    adapters = {
        name: arguments.adapters / name for name in corpora if (arguments.adapters / name).is_dir()
    }
    if not adapters:
        raise PluralismError(
            f"--adapters {arguments.adapters}: no folder named after one of {', '.join(corpora) or 'no corpus'}"
        )
    table = perplexity_matrix(adapters, corpora, arguments.base, arguments.pieces)
    rows = [["held-out text of", *corpora]]
    rows += [[name, *(f"{values[c]:.1f}" for c in corpora)] for name, values in table.items()]
    print(markdown(rows))
    if arguments.topics:
        _voices(adapters, corpora, arguments.base, arguments.topics)


def _voices(adapters: dict[str, Path], corpora: dict[str, Path], base: str, topics: int) -> None:
    from pluralism_eval.voices import voices

    held_out = [p for p in read_corpus(str(next(iter(corpora.values())))).held_out if p.prompt]
    if not held_out:
        raise PluralismError(
            "--topics: the corpora hold plain texts, no questions or situations to speak about"
        )
    kept = list(dict.fromkeys(piece.topic for piece in held_out))[:topics]
    asked = [piece for piece in held_out if piece.topic in kept]
    found = voices(adapters, base, asked)
    rows = [
        ["messages about held-out topics", "n", "who wrote it, guessed right", "name one option"]
    ]
    rows += [
        [name, str(len(own)), f"{found.distinctness[name]:.2f}", f"{found.naming[name]:.2f}"]
        for name, own in found.messages.items()
    ]
    print("\n" + markdown(rows))
    print(f"Chance of the guess: {1 / len(adapters):.2f}.")
    for name, own in found.messages.items():
        print(f"\n{name}:")
        for _, text in own[:3]:
            print(f"  - {text}")
