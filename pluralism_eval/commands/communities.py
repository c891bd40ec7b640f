"""``pluralism-eval communities list | show | check``."""

from __future__ import annotations

import argparse
import json
from typing import Any

from pluralism_eval.commands.train import show_messages
from pluralism_eval.communities import adapters, registry
from pluralism_eval.communities.catalogue import Community, load_pool, named_pools
from pluralism_eval.communities.pool import make_pool
from pluralism_eval.errors import PluralismError
from pluralism_eval.prompts import Prompts
from pluralism_eval.report.table import markdown
from pluralism_eval.report.tabular import plain
from pluralism_eval.settings import parse


def add(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser("communities")
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="pools and registered communities")
    listing.set_defaults(action=_list)
    show = actions.add_parser("show", help="a community's or pool's entries and training figures")
    show.add_argument("communities", help="community, pool, YAML file, or several joined by +")
    show.add_argument(
        "--no-messages",
        action="store_true",
        help="do not load a model and let LoRA communities speak",
    )
    show.set_defaults(action=_show)
    check = actions.add_parser("check", help="adapters, hashes, shapes, and a liveness proof")
    check.add_argument("communities", help="community, pool, YAML file, or several joined by +")
    check.add_argument("--files-only", action="store_true", help="do not load or ask any model")
    check.set_defaults(action=_check)


def _list(_: argparse.Namespace) -> None:
    rows = [["community", "pools", "engine", "base", "adapter or server"]]
    seen: dict[str, list[str]] = {}
    entries: dict[str, dict[str, Any]] = {}
    for pool, members in named_pools().items():
        for entry in members:
            key = json.dumps(entry, sort_keys=True)
            seen.setdefault(key, []).append(pool)
            entries[key] = entry
    for key, entry in entries.items():
        rows.append(_row(entry, ", ".join(seen[key])))
    rows += [_row(entry, "(registered)") for entry in registry.registered().values()]
    print(markdown(rows))
    print(f"\nRegistered communities: {registry.registry_file()}")
    print(
        "Use: --model_args communities=POOL, POOL+COMMUNITY, POOL-COMMUNITY+COMMUNITY, or a YAML file"
    )


def _row(entry: dict[str, Any], pools: str) -> list[str]:
    place = entry.get("adapter") or entry.get("base_url") or entry.get("persona", "")
    return [entry["name"], pools, entry.get("engine", "lora"), entry.get("base", ""), place]


def _show(arguments: argparse.Namespace) -> None:
    for community in load_pool(arguments.communities):
        print(f"{community.name}: {plain(community.description)}")
        for field in (
            "engine",
            "base",
            "base_revision",
            "adapter",
            "revision",
            "base_url",
            "model",
            "persona",
        ):
            if getattr(community, field):
                print(f"  {field}: {plain(str(getattr(community, field)))}")
        for line in _training(community):
            print(f"  {plain(line)}")
        if community.engine == "lora" and not arguments.no_messages:
            _speak(community)


def _speak(community: Community) -> None:
    try:
        folder = adapters.resolve_all([community])[community.name].folder
    except PluralismError as error:
        print(f"  It cannot speak here: {plain(str(error).splitlines()[-1].strip(' -'))}")
        return
    show_messages(community.name, folder, community.base)


def _training(community: Community) -> list[str]:
    record = adapters.training_record(community) if community.adapter else None
    if record is None:
        return []
    ppl = record.get("held_out_perplexity", {})
    return [
        f"corpus: {record.get('corpus')} (sha256 {str(record.get('corpus_sha256'))[:12]})",
        f"pieces: {record.get('pieces')}",
        f"recipe: {record.get('recipe')}",
        f"held-out perplexity: {ppl.get('base', 0):.1f} (base) -> {ppl.get('adapter', 0):.1f}",
    ]


def _check(arguments: argparse.Namespace) -> None:
    settings = parse("modular_pluralism", {"communities": arguments.communities})
    pool = make_pool(settings, Prompts(None))
    dead: PluralismError | None = None
    if not arguments.files_only:
        try:
            pool.prove(pool.communities)
        except PluralismError as error:
            dead = error
    proofs = pool.proofs()
    rows = [["community", "engine", "adapter sha256", "rank", "proof of life"]]
    for entry in pool.identity():
        proof = dict(proofs[entry["name"]])
        kind = proof.pop("kind")
        shown = ", ".join(
            f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in proof.items()
        )
        rows.append(
            [
                entry["name"],
                entry["engine"],
                str(entry.get("adapter_sha256", ""))[:12],
                str(entry.get("rank", "")),
                "not asked" if kind == "not needed" else f"{kind}: {shown}",
            ]
        )
    print(markdown(rows))
    if dead is not None:
        raise dead
    print(
        f"{len(pool.names)} communities: "
        + ("files are as they should be" if arguments.files_only else "all alive")
    )
