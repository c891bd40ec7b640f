"""What constant and human answers score on a task's headline, from lm-eval's samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from statistics import fmean
from typing import Any

from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.metrics.options import majority_distances, majority_match, point_mass
from pluralism_eval.metrics.summary import Mean

Samples = Sequence[Mapping[str, Any]]
"""lm-eval's logged samples of one task: one mapping a doc."""


def echo(samples: Samples) -> dict[str, float]:
    """Of text: the query itself given as the response."""
    return {"the query itself as response": fmean(s["coverage_echo"] for s in samples)}


def label_recall(samples: Samples) -> dict[str, float]:
    gold = [s["acc"][0] for s in samples]
    constant = len(set(gold))
    return {"uniform": 1 / 3, "always first option": 1 / constant, "majority": 1 / constant}


def label_accuracy(samples: Samples) -> dict[str, float]:
    gold = [s["acc"][0] for s in samples]
    first = fmean(float(g == 0) for g in gold)
    return {"uniform": 1 / 3, "always first option": first, "majority": majority_match(gold)}


def matches(samples: Samples) -> dict[str, float]:
    return {
        "uniform": fmean(s["match_uniform"] for s in samples),
        "always first option": fmean(s["match_first"] for s in samples),
        "majority": majority_match([s["match_majority"] for s in samples]),
        **_people(samples, "match"),
    }


def distances(samples: Samples) -> dict[str, float]:
    golds = [s["doc"]["gold"] for s in samples]
    return {
        "uniform": fmean(js_distance([1 / len(g)] * len(g), g) for g in golds),
        "always first option": fmean(js_distance(point_mass(0, len(g)), g) for g in golds),
        "always the option shown first": fmean(s["jsd_first_averaged"] for s in samples),
        "majority": fmean(majority_distances(golds)),
        **_people(samples, "jsd"),
    }


def _people(samples: Samples, score: str) -> dict[str, float]:
    """Rows that need other groups' answers or respondent counts; absent where the data has none."""
    rows = {"other groups' mean": f"{score}_others", "human split-half": f"{score}_split_half"}
    found = {row: Mean()([s[key] for s in samples]) for row, key in rows.items()}
    return {row: value for row, value in found.items() if not isnan(value)}
