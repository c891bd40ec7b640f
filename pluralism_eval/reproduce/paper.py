"""The numbers as printed in the paper (arXiv 2406.15951v2), by table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Any


@lru_cache(maxsize=1)
def tables() -> dict[str, Any]:
    """Table or figure → title, data, warnings; values exactly as printed, null where not printed."""
    text = (files("pluralism_eval.reproduce") / "paper_tables.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def printed(target: str, path: Sequence[str]) -> float | None:
    """The number at ``path`` of ``target``'s data; None where there is none."""
    place: Any = tables()[target].get("data")
    for key in path:
        if not isinstance(place, dict) or key not in place:
            return None
        place = place[key]
    return float(place) if isinstance(place, (int, float)) else None


def models(target: str) -> list[str]:
    """``model/alignment`` of the paper's columns of ``target``, without alignment where it has none."""
    found: dict[str, None] = {}

    def walk(place: Any, path: tuple[str, ...]) -> None:
        if not isinstance(place, dict):
            return
        for key, value in place.items():
            if key.startswith(("llama", "chatgpt", "gemma")):
                alignment = next((p for p in path if p in ("aligned", "unaligned")), "")
                found[f"{key}/{alignment}".rstrip("/")] = None
            else:
                walk(value, (*path, key))

    walk(tables()[target].get("data"), ())
    return list(found)


def notes(target: str) -> list[str]:
    """What is known to be odd about the printed numbers."""
    entry = tables()[target]
    return [str(entry[key]) for key in ("warning", "note", "alignment") if entry.get(key)]
