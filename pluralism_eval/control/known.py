"""Answers of known quality, scored like anybody's answer files: the oracle, uniform, and an adversary."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pluralism_eval.data.docs import read_items
from pluralism_eval.data.sources import input_file
from pluralism_eval.distribution import rescaled
from pluralism_eval.files import write_atomic
from pluralism_eval.scoring import score_file

ORACLE, UNIFORM, ADVERSARY = "oracle", "uniform", "adversary"
KNOWN = (ORACLE, UNIFORM, ADVERSARY)
"""From the best to the worst."""
_SURE = math.log(0.98), math.log(0.01)
_OPPOSITE = {"A": 1, "B": 0, "C": 1}

Item = Mapping[str, Any]


def answers(task: str, how: str, items: Sequence[Item]) -> list[dict[str, Any]]:
    """``items`` with the answer that ``how`` (one of :data:`KNOWN`) gives.

    The oracle answers the gold (Overton: all explanations). The adversary answers its opposite: a distribution turned
    upside down, Oppose for Support, the explanations denied. Uniform's Overton response is the query itself.
    """
    return [{**item, **_ANSWERS[task](how, item)} for item in items]


def _survey(how: str, item: Item) -> dict[str, Any]:
    right = item["gold_distribution"]
    found = {
        ORACLE: list(right),
        UNIFORM: [1 / len(right)] * len(right),
        ADVERSARY: rescaled([max(right) + min(right) - p for p in right]),
    }
    return {"pred_distribution": found[how]}


def _value(how: str, item: Item) -> dict[str, Any]:
    index = "ABC".index(item["label"]) if how == ORACLE else _OPPOSITE[item["label"]]
    sure = [_SURE[0] if i == index else _SURE[1] for i in range(3)]
    return {"logprobs": [math.log(1 / 3)] * 3 if how == UNIFORM else sure}


def _overton(how: str, item: Item) -> dict[str, Any]:
    texts = {
        ORACLE: item["explanation"],
        UNIFORM: [item["input"]],
        ADVERSARY: [f"It is not true that {e[0].lower()}{e[1:]}" for e in item["explanation"]],
    }
    return {"output": " ".join(texts[how])}


_ANSWERS: dict[str, Callable[[str, Item], dict[str, Any]]] = {
    "globalopinionqa": _survey,
    "vk": _value,
    "overton": _overton,
}


def scored(
    task: str, how: str, docs: int, folder: Path, preset: str, nli: str
) -> list[dict[str, Any]]:
    """Samples of the first ``docs`` items of the town, answered so and scored; the answers stay in ``folder``."""
    items = read_items(input_file(task, "control"))[:docs]
    file = folder / f"{how}_{task}.json"
    write_atomic(file, json.dumps(answers(task, how, items), ensure_ascii=False, indent=1))
    return score_file(file, task, preset, nli).samples
