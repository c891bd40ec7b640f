"""Hashes of inputs' items that ship with the package: docs are compared with an input that nobody has to download.

``pinned_inputs.json`` maps the git blob id of an input file to its task and a hash of each item's doc.
``python -m pluralism_eval.leaderboard.pins FILE...`` adds input files; those of older files stay, so that submissions
made on them can still be verified. The sample's files are pinned. The authors' are not: they were not at hand where
this version was made, so docs of theirs are compared with the file itself, where that is at hand.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pluralism_eval.data.docs import build_docs, read_items
from pluralism_eval.data.sources import blob_id
from pluralism_eval.files import write_atomic
from pluralism_eval.tasks import TASKS

FILE = Path(__file__).with_name("pinned_inputs.json")
META = ("attribute", "attribute_line", "steer_line", "mode", "letters", "options", "query")
"""What a doc's ``pluralism`` has from its item; the rest of it are settings of the run."""
_BYTES = 8  # of a hash: a forged item would need 2^64 tries
_SCALE, _OFFSET = 1e8, 0.271828
"""A number is hashed by its first 8 decimals. The offset keeps usual numbers (0.5, 1/3, 0.125) away from the edge
between two hashes, so that another rounding of the last bit changes nothing."""


@dataclass(frozen=True)
class Pinned:
    """What is known of one input file."""

    task: str
    """Short name."""
    items: tuple[bytes, ...]
    """[n_items] hashes of its docs."""
    damaged: frozenset[int] = frozenset()
    """Numbers of the items that ``data=cleaned`` drops."""

    def hashes(self, dropped: bool) -> list[bytes]:
        """[n_docs] as a run loads them."""
        lost = self.damaged if dropped else ()
        return [one for i, one in enumerate(self.items) if i not in lost]


@lru_cache(maxsize=1)
def pinned() -> dict[str, Pinned]:
    """Git blob id → what is pinned of that file."""
    found = {}
    for blob, entry in json.loads(FILE.read_text(encoding="utf-8")).items():
        packed = base64.b64decode(entry["items"])
        items = tuple(packed[i : i + _BYTES] for i in range(0, len(packed), _BYTES))
        found[blob] = Pinned(entry["task"], items, frozenset(entry["damaged"]))
    return found


def hash_of(doc: Mapping[str, Any]) -> bytes:
    """Of everything that a doc has from its item and its file: id, query, options, group, gold, respondents, others."""
    meta = doc.get("pluralism")
    meta = meta if isinstance(meta, dict) else {}
    own = {name: value for name, value in doc.items() if name != "pluralism"}
    told = [own, {name: meta.get(name) for name in META}]
    try:
        text = json.dumps(_rounded(told), sort_keys=True)
    except RecursionError:  # no item is that deep
        return b""
    return sha256(text.encode()).digest()[:_BYTES]


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    if isinstance(value, float):
        return f"{value * _SCALE + _OFFSET:.0f}"  # NaN and infinity have their words
    return value


def entry_of(task: str, path: Path) -> dict[str, Any]:
    """The pins of the input file ``path``."""
    items = read_items(path)
    common = {"preset": "paper", "orders_given": None, "input": TASKS[task].input}
    docs = build_docs(task, items, common, path.name)
    return {
        "task": task,
        "damaged": sorted(TASKS[task].damage(items)),
        "items": base64.b64encode(b"".join(map(hash_of, docs))).decode(),
    }


def _main(paths: Sequence[str]) -> None:
    known = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
    for path in map(Path, paths):
        task = next(t.short for t in TASKS.values() if path.stem.removesuffix("_small") == t.input)
        known[blob_id(path.read_bytes())] = entry_of(task, path)
    pinned.cache_clear()
    write_atomic(FILE, json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
