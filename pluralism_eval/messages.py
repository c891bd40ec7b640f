"""Messages ahead of a run: which a task needs, their exchange with the authors' files, and figures."""

from __future__ import annotations

import json
import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from pluralism_eval import plugin, requests
from pluralism_eval.communities.pool import CommunityPool
from pluralism_eval.communities.store import MessageSource
from pluralism_eval.errors import PluralismError, raise_all
from pluralism_eval.files import write_atomic
from pluralism_eval.presets import get_preset
from pluralism_eval.schema import Message, Query
from pluralism_eval.settings import Settings
from pluralism_eval.variants import expand

REFUSAL = re.compile(
    r"\b(?:as an ai\b|i(?:['’]m| am) (?:sorry|unable|not able)|i (?:can ?not|can['’]t|won['’]t) "
    r"(?:help|assist|provide|comment|answer|fulfil)|i (?:do not|don['’]t) have (?:personal )?(?:opinions|beliefs))",
    re.IGNORECASE,
)


def task_queries(
    tasks: Sequence[str], settings: Settings, metadata: Mapping[str, Any], limit: int | None = None
) -> list[Query]:
    """The queries that a run with these tasks asks communities about, in its order; one for each
    order of options and sample of messages.

    Args:
        tasks: lm-eval task names, groups or globs.
        metadata: as lm-eval's ``--metadata`` (``data=...``).
        limit: docs a task.
    """
    plugin.register()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    from lm_eval.tasks import TaskManager

    ours_only = all(name.startswith("pluralism") for name in tasks)
    manager = TaskManager(
        include_path=str(plugin.task_folder()) if ours_only else None,
        include_defaults=not ours_only,
        metadata={
            "nli": "embedded",  # nothing is scored here
            "preset": settings.preset,
            "orders": settings.orders,
            **metadata,
        },
    )
    names = manager.match_tasks(list(tasks))
    if not names:
        raise PluralismError(
            f"--tasks {' '.join(tasks)}: no such task. Ours: pluralism, {', '.join(plugin.TASKS)}"
        )
    preset = get_preset(settings.preset)
    found: list[Query] = []
    for task in manager.load(names)["tasks"].values():
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        kind = task.OUTPUT_TYPE
        if kind in ("multiple_choice", "loglikelihood"):
            scored = [i for i in task.instances if i.request_type == "loglikelihood"]
            queries, _ = requests.option_queries(scored, settings, preset)
        elif kind == "generate_until":
            queries = requests.text_queries(task.instances, settings, preset)
        else:
            raise PluralismError(f"task {task.task_name} ({kind}) asks no community anything")
        for query in {query.key: query for query in queries}.values():
            found += expand(query, 1, settings.message_samples)
    return found


def export_messages(pool: CommunityPool, queries: Sequence[Query], folder: Path) -> list[Path]:
    """Write the authors' ``<input>_mistral-<community>.json`` files (item id → text).

    An item has one message there: the first sample, about the options as listed.

    Raises:
        PluralismError: a message is not in the store yet, or two docs of one input share an id.
    """
    queries = [query for query in queries if not query.order and not query.sample]
    stored = pool.stored(queries)
    missing = len(queries) * len(pool.names) - len(stored)
    if missing:
        raise PluralismError(
            f"{missing} of {len(queries) * len(pool.names)} messages are not in the store; "
            "run `pluralism-eval messages generate` with the same options first"
        )
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    problems: dict[str, None] = {}
    for (n, i), message in stored.items():
        query = queries[n]
        name = f"{query.source_input or query.task}_mistral-{pool.names[i]}.json"
        known = tables[name].setdefault(query.source_id, message.text)
        if known != message.text:
            problems[f"{name}: item {query.source_id!r} has more than one message"] = None
    raise_all("export", list(problems)[:10])
    for name, table in tables.items():
        text = json.dumps(table, ensure_ascii=False, indent=1)
        write_atomic(folder / name, text + "\n")
    return sorted(folder / name for name in tables)


def import_messages(
    pool: CommunityPool, queries: Sequence[Query], folder: Path
) -> dict[str, tuple[int, int]]:
    """Take the authors' exported files into the store.

    Returns:
        Community → (messages that are new in the store, queries without one in the files).
    """
    queries = [query for query in queries if not query.order and not query.sample]
    source = MessageSource(str(folder))
    if not source.exported:
        raise PluralismError(f"{str(folder)!r} has no exported message files (*.json)")
    counts = {}
    for i, name in enumerate(pool.names):
        texts = [(query, i, source.find(query, name)) for query in queries]
        there = [(query, i, text) for query, _, text in texts if text is not None]
        counts[name] = pool.import_messages(there), len(texts) - len(there)
    if not any(new or missing < len(queries) for new, missing in counts.values()):
        raise PluralismError(
            f"{str(folder)!r} has no message for these queries and the communities {', '.join(pool.names)}"
        )
    return counts


def message_stats(
    messages: Mapping[tuple[int, int], Message], names: Sequence[str], n_queries: int
) -> dict[str, dict[str, float]]:
    """Community → figures.

    ``messages`` (count), ``missing`` (count), ``words`` (mean), and as shares in [0, 1]: ``empty``,
    ``cut`` (ended by the length limit; NaN where all are imported), ``refusals`` (by phrases), ``duplicates`` (its text occurs
    for another query too), ``distinct_2`` (different bigrams among all of the community's, Li et
    al. 2016).
    """
    found = {}
    for i, name in enumerate(names):
        own = [message for (_, member), message in messages.items() if member == i]
        texts = [m.text for m in own]
        copies = Counter(" ".join(_words(text)) for text in texts)
        bigrams = [pair for text in texts for pair in _ngrams(text, 2)]
        found[name] = {
            "messages": len(own),
            "missing": n_queries - len(own),
            "words": _mean([len(_words(text)) for text in texts]),
            "empty": _mean([not text for text in texts]),
            "cut": _mean([not m.stopped for m in own if not m.imported]),
            "refusals": _mean([bool(REFUSAL.search(text)) for text in texts]),
            "duplicates": _mean([copies[" ".join(_words(text))] > 1 for text in texts]),
            "distinct_2": len(set(bigrams)) / len(bigrams) if bigrams else math.nan,
        }
    return found


def message_overlap(
    messages: Mapping[tuple[int, int], Message], names: Sequence[str], n: int = 3
) -> dict[str, dict[str, float]]:
    """Community → community → mean Jaccard overlap, in [0, 1], of the word ``n``-grams of what the
    two say about one query; 1: the same words, 0: nothing in common."""
    grams = {place: set(_ngrams(message.text, n)) for place, message in messages.items()}
    queries = sorted({query for query, _ in grams})
    table: dict[str, dict[str, float]] = {name: {} for name in names}
    for i, j in combinations(range(len(names)), 2):
        pairs = [(grams[q, i], grams[q, j]) for q in queries if (q, i) in grams and (q, j) in grams]
        value = _mean([len(a & b) / len(a | b) if a | b else 1.0 for a, b in pairs])
        table[names[i]][names[j]] = table[names[j]][names[i]] = value
    return table


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    words = _words(text)
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _mean(values: Sequence[float]) -> float:
    return fmean(map(float, values)) if values else math.nan
