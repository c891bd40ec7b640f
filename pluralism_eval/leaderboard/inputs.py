"""Which input file a task was run on, and whether the docs of samples are those of that file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pluralism_eval.cache import cache_root
from pluralism_eval.data.cleaning import damaged
from pluralism_eval.data.docs import build_docs, read_items
from pluralism_eval.data.sources import COMMIT, INPUTS, blob_id, chosen, input_file
from pluralism_eval.errors import PluralismError
from pluralism_eval.leaderboard.recompute import same, shown

_META = ("attribute", "attribute_line", "steer_line", "mode", "letters", "options", "query")
_SHOWN = 20


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
    if blob == INPUTS[task][1]:
        return "cleaned" if dropped and task == "opinionqa" else "authors"
    return "sample" if blob == sample_blob(task) else "other"


@lru_cache
def sample_blob(task: str) -> str:
    """git's id of the sample file that ships with this version."""
    folder = files("pluralism_eval.data") / "sample"
    return blob_id((folder / f"{INPUTS[task][0]}.json").read_bytes())


def at_hand(task: str, data: str | None) -> Input | None:
    """The input of ``task`` (short name) where it is on this machine; nothing is downloaded."""
    source, dropped = chosen(data)
    if source == "authors":
        folder = cache_root() / "data" / f"authors-{COMMIT[:12]}"
        if not (folder / f"{INPUTS[task][0]}.json").is_file():
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
    if task == "opinionqa" and source.dropped:
        lost = damaged(items)
        docs = [doc for i, doc in enumerate(docs) if i not in lost]
    return docs


def doc_problems(
    task: str, source: Input, rows: Sequence[Mapping[str, Any]]
) -> tuple[list[str], int]:
    """(where docs of samples differ from the file, number of docs in the file)."""
    names = ("preset", "orders_given", "input", "task")
    try:
        common = {name: rows[0]["doc"]["pluralism"][name] for name in names}
        docs = docs_of(task, source, common)
    except (KeyError, TypeError, AttributeError, PluralismError) as error:
        return [f"the docs do not say how they were read: {type(error).__name__} {error}"], 0
    found: list[str] = []
    for row in rows:
        number = int(row["doc_id"])
        if not 0 <= number < len(docs):
            found.append(f"doc {number}: {source.path.name} has {len(docs)} docs")
            continue
        found += [f"doc {number} (id {docs[number]['id']}): {d}" for d in _differences(docs[number], row["doc"])]  # fmt: skip
    more = len(found) - _SHOWN
    return found if more <= 0 else [*found[:_SHOWN], f"... and {more} more"], len(docs)


def _differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    told, own = expected["pluralism"], found.get("pluralism")
    own = own if isinstance(own, dict) else {}
    pairs = {name: (value, found.get(name)) for name, value in expected.items()}
    del pairs["pluralism"]
    pairs |= {f"pluralism.{name}": (told[name], own.get(name)) for name in _META}
    return [
        f"{name} is {shown(a)} in the input file, {shown(b)} in the sample"
        for name, (a, b) in pairs.items()
        if not same(a, b)
    ]
