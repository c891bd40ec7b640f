"""Metric values against scipy and scikit-learn called directly, and the paper's known values."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from pluralism_eval.metrics import classification, options
from pluralism_eval.metrics.coverage import split_sentences
from pluralism_eval.metrics.statistics import bootstrap_interval
from pluralism_eval.metrics.summary import Mean, macro

PAIRS = [(0, 0), (1, 1), (2, 0), (2, 2), (0, 2), (1, 0), (0, 1), (1, 2), (2, 1), (0, 0)]


def test_classification_is_scikit_learns() -> None:
    gold, pred = zip(*PAIRS, strict=True)
    assert classification.balanced_accuracy(PAIRS) == pytest.approx(
        balanced_accuracy_score(gold, pred)
    )
    assert classification.macro_f1(PAIRS) == pytest.approx(f1_score(gold, pred, average="macro"))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=60))
def test_classification_is_scikit_learns_on_any_labels(pairs: list[tuple[int, int]]) -> None:
    gold, pred = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "acc": accuracy_score(gold, pred),
            "balanced": balanced_accuracy_score(gold, pred),
            "three": f1_score(gold, pred, labels=[0, 1, 2], average="macro", zero_division=0),
            "fourth": f1_score(gold, pred, average="macro", zero_division=0),
        }
    assert classification.accuracy(pairs) == pytest.approx(expected["acc"])
    assert classification.balanced_accuracy(pairs) == pytest.approx(expected["balanced"])
    assert classification.macro_f1(pairs) == pytest.approx(expected["three"])
    assert classification.macro_f1(pairs, labels=None) == pytest.approx(expected["fourth"])


def test_binary_rules() -> None:
    assert classification.binary(PAIRS) == [p for p in PAIRS if p[0] != 2]
    assert classification.binary(PAIRS, drop_predicted=True) == [p for p in PAIRS if 2 not in p]
    both = [(*pair, "paper") for pair in PAIRS]
    assert classification.acc_binary(both) == pytest.approx(3 / 7)
    assert classification.balanced_acc_binary(both) == pytest.approx((2 / 4 + 1 / 3) / 2)
    kept = [p for p in PAIRS if p[0] != 2]
    expected = f1_score(*zip(*kept, strict=True), labels=[0, 1], average="macro")
    assert classification.macro_f1_binary(both) == pytest.approx(expected)


def doc(gold: list[float], group: str, preset: str = "paper") -> dict[str, Any]:
    return {
        "id": "1",
        "gold": gold,
        "options": [f"option {i}" for i in range(len(gold))],
        "cluster": "a question",
        "target": gold.index(max(gold)),
        "group": group,
        "pluralism": {"preset": preset, "orders": 1},
    }


def results(*probabilities: float) -> list[tuple[float, bool]]:
    return [(math.log(p), False) for p in probabilities]


def test_distributional_scores_and_their_baselines() -> None:
    scores = options.moralchoice(doc([1.0, 0.0], "low_ambiguity"), results(0.3, 0.1))
    assert scores["jsd"] == pytest.approx(jensenshannon([0.75, 0.25], [1, 0]))
    assert scores["option_mass"] == pytest.approx(0.4)
    assert (scores["jsd_first"], scores["jsd_uniform"]) == (0, pytest.approx(0.4645, abs=1e-4))
    assert Mean("low_ambiguity")([scores["jsd_low"]]) == scores["jsd"]
    assert math.isnan(Mean("high_ambiguity")([scores["jsd_high"]]))


@pytest.mark.parametrize(
    ("group", "preset", "column"),
    [
        ("Nigeria", "paper", "nigeria"), ("Nigeria (Non-national sample)", "paper", None),
        ("Nigeria (Non-national sample)", "reference", "nigeria"), ("India (Current national sample)", "paper", "india"),
        ("India (Old national sample)", "paper", None), ("Kenya", "reference", None),
    ],
)  # fmt: skip
def test_countries_are_exact_in_the_paper_and_substrings_in_the_reference(
    group: str, preset: str, column: str | None
) -> None:
    scores = options.globalopinionqa(doc([0.5, 0.5], group, preset), results(0.5, 0.5))
    hits = [
        name for name in options.TABLE3_COUNTRIES
        if not math.isnan(Mean(name)([scores[f"jsd_{name.lower().replace(' ', '_')}"]]))
    ]  # fmt: skip
    assert hits == ([column.title()] if column else [])


def test_opinionqa_matches_by_category() -> None:
    scores = options.opinionqa(doc([0.2, 0.8], "RELIG"), results(0.1, 0.2))
    assert (scores["match"], scores["match_relig"], scores["match_first"]) == (
        1.0,
        ("RELIG", 1.0),
        0.0,
    )
    assert Mean("RACE")([scores["match_race"]]) != Mean("RELIG")([scores["match_relig"]])


def test_majority_baselines_come_from_the_data() -> None:
    assert options.majority_match([0, 1, 1, 2]) == 0.5
    golds = [[1.0, 0.0], [0.0, 1.0], [0.2, 0.8], [0.5, 0.5]]
    expected = np.mean([jensenshannon([0, 1], g) for g in golds])
    assert options.majority_distance(golds) == pytest.approx(expected)


def test_macro_average_weighs_groups_alike() -> None:
    assert macro([("a", 1.0), ("a", 0.0), ("b", 1.0)]) == 0.75


def test_sentences_of_markdown() -> None:
    assert (
        len(split_sentences("- One point.\n- Another one\n\n**Third.** And a fourth!\n---\n")) >= 4
    )
    assert split_sentences("  \n--\n") == []


def test_bootstrap_covers_the_mean() -> None:
    low, high = bootstrap_interval([0.0, 1.0] * 50, lambda xs: float(np.mean(xs)))
    assert 0.38 < low < 0.45 < 0.55 < high < 0.62
    assert all(math.isnan(v) for v in bootstrap_interval([1.0], lambda xs: float(np.mean(xs))))
