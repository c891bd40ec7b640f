"""``pluralism-eval messages generate | export | import | stats``."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from pluralism_eval import messages
from pluralism_eval.communities.pool import CommunityPool, make_pool
from pluralism_eval.errors import PluralismError
from pluralism_eval.prompts import Prompts
from pluralism_eval.report.table import markdown
from pluralism_eval.schema import Query
from pluralism_eval.settings import parse


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("messages")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    common = _common()
    for name, action, text in (
        ("generate", _generate, "write what the tasks need into the store; no LLM is loaded"),
        ("export", _export, "store -> the authors' community_lm_msgs files"),
        ("import", _import, "the authors' community_lm_msgs files -> store"),
        ("stats", _stats, "length, empty, cut, refusals, duplicates, overlap between communities"),
    ):
        sub = actions.add_parser(name, help=text, parents=[common])
        if name == "export":
            sub.add_argument("--to", type=Path, required=True, help="folder for the files")
        if name == "import":
            sub.add_argument("--from", dest="source", type=Path, required=True, help="their folder")
        sub.set_defaults(action=action)


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--tasks", default="pluralism", help="as lm_eval's; default: all five")
    common.add_argument(
        "--communities", default="embedded", help="pool, YAML file, or several joined by +"
    )
    common.add_argument("--messages", help="folder of the store; default: the cache")
    common.add_argument("--metadata", nargs="*", default=[], help="as lm_eval's: data=sample ...")
    common.add_argument("--limit", type=int, help="docs a task")
    common.add_argument("--preset", default="paper", help="paper (default) or reference")
    common.add_argument("--message_max_tokens", type=int, help="default: the preset's")
    common.add_argument("--message_temperature", type=float)
    common.add_argument("--message_top_p", type=float)
    common.add_argument("--message_batch", type=int)
    common.add_argument("--message_samples", type=int, default=1, help="per query and community")
    common.add_argument("--orders", type=int, help="option orders; default: 2 on MoralChoice")
    common.add_argument("--seed", type=int, default=1234)
    return common


def _prepare(arguments: argparse.Namespace) -> tuple[CommunityPool, list[Query]]:
    names = (
        "communities",
        "messages",
        "preset",
        "message_max_tokens",
        "message_temperature",
        "message_top_p",
        "message_batch",
        "message_samples",
        "orders",
        "seed",
    )
    given = {name: getattr(arguments, name) for name in names}
    settings = parse("modular_pluralism", given)
    pairs = [pair.partition("=") for pair in arguments.metadata]
    if not all(equals and value for _, equals, value in pairs):
        raise PluralismError(f"--metadata {' '.join(arguments.metadata)}: expected KEY=VALUE pairs")
    pool = make_pool(settings, Prompts(None))
    if pool.exported:
        raise PluralismError(
            f"messages={arguments.messages!r} holds exported files; --messages must be the folder of a store"
        )
    metadata = {key: value for key, _, value in pairs}
    tasks = arguments.tasks.split(",")
    return pool, messages.task_queries(tasks, settings, metadata, arguments.limit)


def _generate(arguments: argparse.Namespace) -> None:
    pool, queries = _prepare(arguments)
    pool.check(queries)
    rows = [m for about in pool.messages(queries) for m in about]
    new = sum(not m.reused for m in rows)
    print(f"{len(rows)} messages about {len(queries)} queries; {new} of them written now")


def _export(arguments: argparse.Namespace) -> None:
    pool, queries = _prepare(arguments)
    for path in messages.export_messages(pool, queries, arguments.to):
        print(path)


def _import(arguments: argparse.Namespace) -> None:
    pool, queries = _prepare(arguments)
    counts = messages.import_messages(pool, queries, arguments.source)
    for name, (new, missing) in counts.items():
        print(f"{name}: {new} imported, {missing} of {len(queries)} queries have none in the files")


def _stats(arguments: argparse.Namespace) -> None:
    pool, queries = _prepare(arguments)
    stored = pool.stored(queries)
    if not stored:
        raise PluralismError(
            f"the store has none of the {len(queries) * len(pool.names)} messages; `messages generate` writes them"
        )
    table = messages.message_stats(stored, pool.names, len(queries))
    columns = list(next(iter(table.values())))
    rows = [["community", *columns]]
    rows += [[name, *(_shown(v) for v in figures.values())] for name, figures in table.items()]
    print(markdown(rows))
    overlap = messages.message_overlap(stored, pool.names)
    rows = [["overlap of word trigrams", *pool.names]]
    for name in pool.names:
        rows.append([name, *(_shown(overlap[name].get(other, math.nan)) for other in pool.names)])
    print("\n" + markdown(rows))


def _shown(value: float) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)
