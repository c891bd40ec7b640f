"""``pluralism-eval data``: the card of a data set, and inputs from the original sources."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval.data import build, valueprism
from pluralism_eval.data.docs import build_docs, oddities, read_items
from pluralism_eval.data.sources import blob_id, chosen, input_file, long_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.json_files import read_json
from pluralism_eval.leaderboard.docs import drawn
from pluralism_eval.tasks import TASKS

BUILDERS: dict[str, Callable[..., build.Built]] = {
    **build.BUILDERS,
    "overton": valueprism.overton,
    "vk": valueprism.vk,
}
ON_THE_HUB = ("overton", "vk")
"""Tasks whose builder fetches the original itself if no ``--source`` is given."""


def add(commands: Any) -> None:
    """Adds the subcommands to the parser."""
    parser = commands.add_parser("data")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    card = actions.add_parser("card", help="per task: items, groups, what is damaged and why")
    card.add_argument("--data", help="authors, cleaned, sample or a folder (default: authors)")
    card.add_argument("--task", choices=sorted(TASKS), help="only this one")
    card.add_argument("--json", action="store_true", help="every damaged item, as JSON")
    card.set_defaults(action=_card)
    draw = actions.add_parser(
        "draw", help="docs of a partial run that can be submitted, for lm_eval's --samples"
    )
    draw.add_argument("tasks", nargs="+", choices=sorted(TASKS), metavar="TASK", help=", ".join(TASKS))  # fmt: skip
    draw.add_argument("--docs", type=int, required=True, help="of each task")
    draw.add_argument("--data", help="as of card")
    draw.set_defaults(action=_draw)
    make = actions.add_parser("build", help="an input file from its original source")
    make.add_argument("task", choices=sorted(BUILDERS))
    make.add_argument(
        "--source",
        type=Path,
        help="folder or file of the original (overton, vk: default is ValuePrism from the Hub)",
    )
    make.add_argument("--output", type=Path, required=True, help="folder for <input name>.json")
    make.add_argument(
        "--unweighted", action="store_true", help="OpinionQA: without survey weights, as released"
    )
    make.add_argument(
        "--split", choices=valueprism.SPLITS, help="overton, vk: of ValuePrism (default: test)"
    )
    make.add_argument(
        "--minimum", type=int, help="overton: explained values a situation needs (default: 1)"
    )
    make.set_defaults(action=_build)


def _card(arguments: argparse.Namespace) -> None:
    cards = []
    for task in [arguments.task] if arguments.task else TASKS:
        try:
            cards.append(_describe(task, arguments.data))
        except PluralismError as error:
            cards.append({"task": task, "missing": str(error)})
    if arguments.json:
        print(json.dumps(cards, ensure_ascii=False, indent=1))
        return
    for card in cards:
        print(f"\n{card['task']}")
        for name, value in card.items():
            if name not in ("task", "damaged_items"):
                print(f"  {name}: {value}")
    if arguments.task and all("missing" in card for card in cards):
        raise PluralismError(cards[0]["missing"])


def _draw(arguments: argparse.Namespace) -> None:
    found = {}
    for task in arguments.tasks:
        path, dropped = input_file(task, arguments.data), chosen(arguments.data)[1]
        items = read_items(path)
        of = len(items) - (len(TASKS[task].damage(items)) if dropped else 0)
        if not 1 <= arguments.docs <= of:
            raise PluralismError(f"--docs {arguments.docs}: {task} has {of:,} docs; from 1 to {of}")
        found[long_name(task)] = drawn(of, arguments.docs)
    print(json.dumps(found))


def _describe(task: str, data: str | None) -> dict[str, Any]:
    path = input_file(task, data)
    items = read_items(path)
    docs = build_docs(task, items, {"input": path.stem, "preset": "paper"}, path.name)
    lost = TASKS[task].damage(items)
    card: dict[str, Any] = {
        "task": task,
        "file": path.name,
        "items": len(items),
        "questions": len({doc["cluster"] for doc in docs}),
        **dict.fromkeys(("repeated_ids", "repeated_docs"), 0),
        **oddities(items, docs),
        "damaged": len(lost),
        "used": len(items) - (len(lost) if chosen(data)[1] else 0),
        "reasons": dict(Counter(lost.values())),
        "damaged_items": [
            {"id": items[i]["id"], "options": items[i]["options"], "reason": reason}
            for i, reason in lost.items()
        ],
    }
    if "group" in docs[0]:
        card["groups"] = dict(Counter(doc["group"] for doc in docs).most_common())
        card["options"] = dict(sorted(Counter(len(doc["options"]) for doc in docs).items()))
        card["with_respondents"] = sum(doc["respondents"] > 0 for doc in docs)
    elif TASKS[task].is_text:
        card.update(_values(docs))
    else:
        card.update(_pairs(docs))
    return {**card, **_made(path)}


def _values(docs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the values and explanations of Overton docs look like."""
    pairs = [(doc["situation"], value) for doc in docs for value in doc["values"]]
    explanations = [explanation for doc in docs for explanation in doc["explanations"]]
    return {
        "pairs": len(pairs),
        "values": dict(sorted(Counter(len(doc["values"]) for doc in docs).items())),
        "repeated_pairs": len(pairs) - len(set(pairs)),
        "empty_values": sum(not str(value).strip() for _, value in pairs),
        "empty_explanations": sum(not str(e).strip() for e in explanations),
    }


def _pairs(docs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the (situation, value) pairs of VK docs and their labels look like."""
    labels: dict[tuple[str, str], set[int]] = {}
    for doc in docs:
        pair = doc["cluster"], doc["pluralism"]["attribute"]
        labels.setdefault(pair, set()).add(doc["target"])
    return {
        "labels": dict(Counter(doc["options"][doc["target"]] for doc in docs).most_common()),
        "repeated_pairs": len(docs) - len(labels),
        "contradictory_pairs": sum(len(found) > 1 for found in labels.values()),
        "empty_values": sum(not value.strip() for _, value in labels),
    }


def _made(path: Path) -> dict[str, Any]:
    """What :func:`_build` left out of ``path``; {} if it did not write this very file."""
    try:
        record = read_json(_record(path))
        same = record["blob"] == blob_id(path.read_bytes())
        told = {"built_from": record["source"], "left_out": record["left_out"]}
        return {**told, "noted": record.get("noted", {})} if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _record(path: Path) -> Path:
    return path.with_suffix(".build.json")


def _build(arguments: argparse.Namespace) -> None:
    built = BUILDERS[arguments.task](arguments.source, **_options(arguments))
    source = str(arguments.source or f"{valueprism.DATASET}@{valueprism.REVISION}")
    if not built.items:
        raise PluralismError(f"{source!r} gave no item; dropped: {dict(built.dropped)}")
    target = arguments.output / f"{TASKS[arguments.task].input}.json"
    content = json.dumps(built.items, ensure_ascii=False).encode()
    write_atomic(target, content)
    record = {
        "source": source,
        "blob": blob_id(content),
        "left_out": dict(built.dropped),
        "noted": dict(built.noted),
    }
    write_atomic(_record(target), json.dumps(record, ensure_ascii=False, indent=1))
    print(f"{target}: {len(built.items)} items; dropped: {dict(built.dropped) or 'none'}")
    if built.noted:
        print(f"kept, but note: {dict(built.noted)}")
    print(f"Use it: --metadata data={arguments.output}")


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The builder's own options. Raises PluralismError for one that is another task's."""
    task = arguments.task
    if not arguments.source and task not in ON_THE_HUB:
        raise PluralismError(
            f"data build {task} needs --source: the folder or file of the original"
        )
    if arguments.unweighted and task != "opinionqa":
        raise PluralismError("--unweighted concerns opinionqa only; drop it")
    if arguments.split and task not in ON_THE_HUB:
        raise PluralismError("--split concerns overton and vk only; drop it")
    if arguments.minimum is not None and task != "overton":
        raise PluralismError("--minimum concerns overton only; drop it")
    given = {
        "weighted": False if arguments.unweighted else None,
        "split": arguments.split,
        "minimum": arguments.minimum,
    }
    return {name: value for name, value in given.items() if value is not None}
