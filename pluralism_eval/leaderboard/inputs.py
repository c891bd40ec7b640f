"""Which input file a task was run on, and where that file is on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pluralism_eval.cache import cache_root
from pluralism_eval.data.docs import build_docs, read_items
from pluralism_eval.data.sources import COMMIT, blob_id, chosen, input_file
from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard.pins import pinned
from pluralism_eval.tasks import TASKS


@dataclass(frozen=True)
class Input:
    """The input file of one task, at hand."""

    path: Path
    blob: str
    dropped: bool
    """Without damaged items (``data=cleaned``)."""

    def label(self, task: str) -> str:
        """``authors``, ``cleaned``, ``sample`` or ``other``."""
        return label_of(task, self.blob, self.dropped)


def label_of(task: str, blob: str, dropped: bool) -> str:
    """What the file with this git blob id is; only OpinionQA has damaged items to drop."""
    if blob == TASKS[task].blob:
        return "cleaned" if dropped and TASKS[task].damaged else "authors"
    pins = pinned().get(blob)
    return "sample" if pins and pins.task == task else "other"


def at_hand(task: str, data: str | None) -> Input | None:
    """The input of ``task`` (short name) where it is on this machine; nothing is downloaded."""
    source, dropped = chosen(data)
    if source == "authors":
        folder = cache_root() / "data" / f"authors-{COMMIT[:12]}"
        if not (folder / f"{TASKS[task].input}.json").is_file():
            return None
    try:
        path = input_file(task, data)
        return Input(path, blob_id(path.read_bytes()), dropped)
    except (PluralismError, OSError):
        return None


def docs_of(task: str, source: Input, common: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The docs of the file as a run loads them.

    Args:
        common: what the run's docs say about their reading (``preset``, ``orders_given``, ``input``).
    """
    items = read_items(source.path)
    docs = build_docs(task, items, common, source.path.name)
    if TASKS[task].damaged and source.dropped:
        lost = TASKS[task].damage(items)
        docs = [doc for i, doc in enumerate(docs) if i not in lost]
    return docs
