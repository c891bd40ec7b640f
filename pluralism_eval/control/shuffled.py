"""The messages of a run, each shown with another question: what they say no longer concerns what is asked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval import messages
from pluralism_eval.cache import digest
from pluralism_eval.communities.pool import make_pool
from pluralism_eval.data.docs import read_items
from pluralism_eval.data.sources import input_file, short_name
from pluralism_eval.errors import PluralismError
from pluralism_eval.files import write_atomic
from pluralism_eval.json_files import read_json
from pluralism_eval.prompts import Prompts
from pluralism_eval.settings import parse
from pluralism_eval.study import RunSpec


def partners(clusters: Mapping[str, str]) -> dict[str, str]:
    """Item id → id of the item whose messages it gets: one about the next question or situation.

    Args:
        clusters: item id → its question or situation.

    Raises:
        PluralismError: all are about one.
    """
    own: dict[str, list[str]] = {}
    for item, cluster in clusters.items():
        own.setdefault(cluster, []).append(item)
    names = list(own)
    if len(names) < 2:
        raise PluralismError(
            "messages can be shuffled between at least 2 questions; raise --limit to 2 or more"
        )
    after = dict(zip(names, [*names[1:], names[0]], strict=True))
    return {
        item: own[after[cluster]][place % len(own[after[cluster]])]
        for cluster, items in own.items()
        for place, item in enumerate(items)
    }


def export(spec: RunSpec, folder: Path) -> Path:
    """The stored messages of the finished run ``spec``, exchanged between its questions, in the authors' files.

    Returns:
        A folder for ``messages=``, named after its content.
    """
    settings = parse(spec.method, spec.model_args())
    pool = make_pool(settings, Prompts(settings.prompts))
    queries = [
        query
        for task in spec.tasks
        for query in messages.task_queries(
            [task], settings, dict(spec.metadata), None if spec.docs is None else len(spec.docs[task])
        )
    ]  # fmt: skip
    straight = messages.export_messages(pool, queries, folder / "straight")
    items = {t: read_items(input_file(short_name(t), spec.metadata.get("data"))) for t in spec.tasks}  # fmt: skip
    clusters = {
        input_file(short_name(t), spec.metadata.get("data")).stem: _clusters(own)
        for t, own in items.items()
    }
    tables = {file.name: exchanged(read_json(file), clusters, file.name) for file in straight}
    target = folder / f"shuffled_{digest(tables)[:12]}"
    for name, table in tables.items():
        write_atomic(target / name, json.dumps(table, ensure_ascii=False, indent=1) + "\n")
    return target


def exchanged(
    table: Mapping[str, str], clusters: Mapping[str, Mapping[str, str]], name: str
) -> dict[str, str]:
    """One community's item id → text, each text from the item's partner."""
    about = next(own for source, own in clusters.items() if name.startswith(f"{source}_"))
    pairs = partners({item: about[item] for item in table})
    return {item: table[other] for item, other in pairs.items()}


def _clusters(items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {str(item["id"]): str(item.get("situation") or item["question"]) for item in items}
