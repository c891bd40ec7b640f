"""Writes what ships of the town from ``town.json``: ``python -m pluralism_eval.control.build``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pluralism_eval.control import town as towns
from pluralism_eval.control.town import Town
from pluralism_eval.files import write_atomic
from pluralism_eval.tasks import TASKS


def built(t: Town) -> dict[str, str]:
    """Path in the package → content."""
    inputs = {
        "overton": towns.overton_items(t),
        "vk": towns.value_items(t),
        "globalopinionqa": towns.survey_items(t),
    }
    found = {
        f"data/control/{TASKS[task].input}.json": json.dumps(items, ensure_ascii=False, indent=1)
        + "\n"
        for task, items in inputs.items()
    }
    for name in t.communities:
        found[f"communities/control/messages/{name}.jsonl"] = _lines(towns.script(t, name))
        found[f"communities/control/corpora/{name}.jsonl"] = _lines(towns.corpus(t, name))
    return found


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    root = Path(str(files("pluralism_eval")))
    for path, content in built(towns.town()).items():
        write_atomic(root / path, content)
