"""Distances: against scipy called directly, and properties that must hold for any distributions."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy
from scipy.stats import wasserstein_distance

from pluralism_eval.distribution import entropy
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import distance
from tests.conftest import AUTHORS_INPUTS, needs_authors_inputs


@st.composite
def pairs(draw: Any) -> tuple[list[float], list[float]]:
    n = draw(st.integers(2, 6))
    found = []
    for _ in range(2):
        raw = draw(st.lists(st.floats(0, 1), min_size=n, max_size=n).filter(lambda v: sum(v) > 0.1))
        found.append((np.array(raw) / sum(raw)).tolist())
    return found[0], found[1]


@given(pairs(), st.randoms())
def test_js_is_symmetric_bounded_and_blind_to_order(
    pair: tuple[list[float], list[float]], random: Any
) -> None:
    p, q = pair
    d = distance.js_distance(p, q)
    assert d == pytest.approx(distance.js_distance(q, p), abs=1e-9)
    assert 0 <= d <= math.sqrt(math.log(2)) + 1e-9
    assert d == pytest.approx(distance.js_distance(p, q, base=2) * math.sqrt(math.log(2)), abs=1e-9)
    order = list(range(len(p)))
    random.shuffle(order)
    assert d == pytest.approx(
        distance.js_distance([p[i] for i in order], [q[i] for i in order]), abs=1e-7
    )
    assert distance.js_distance(p, p) == pytest.approx(0, abs=1e-7)


def test_the_smallest_floats_do_not_make_a_distance_infinite() -> None:
    assert distance.js_distance([1.0, 0.0], [1.0, 5e-324]) == pytest.approx(0, abs=1e-9)


@given(pairs())
def test_the_other_distances_are_scipys_and_bounded(pair: tuple[list[float], list[float]]) -> None:
    p, q = pair
    n = len(p)
    assert 0 <= distance.total_variation(p, q) <= 1 + 1e-12
    w1 = distance.wasserstein(p, q, list(range(n)))
    assert w1 == pytest.approx(wasserstein_distance(range(n), range(n), p, q) / (n - 1), abs=1e-9)
    assert w1 <= distance.total_variation(p, q) + 1e-9
    smooth = (np.array(p) + 1e-3) / (1 + 1e-3 * n)
    assert distance.kl_divergence(p, q) == pytest.approx(scipy_entropy(q, smooth), abs=1e-9)
    assert distance.kl_divergence(p, q) >= 0


@needs_authors_inputs
@pytest.mark.parametrize(
    "name",
    ["distributional_test_globalopinionqa_small", "distributional_test_moralchoice",
     "steerable_test_opinionqa_small"],
)  # fmt: skip
def test_every_released_gold_distribution_against_scipy(name: str) -> None:
    items = json.loads((AUTHORS_INPUTS / f"{name}.json").read_text())
    rng = np.random.default_rng(0)
    for item in items:
        gold = np.array(item["gold_distribution"], dtype=float)
        gold, n = gold / gold.sum(), len(gold)
        p = rng.dirichlet(np.ones(n))
        assert distance.js_distance(p, gold) == pytest.approx(jensenshannon(p, gold))
        assert distance.js_distance(p, gold, 2) == pytest.approx(jensenshannon(p, gold, 2))
        assert distance.total_variation(p, gold) == pytest.approx(np.abs(p - gold).sum() / 2)
        assert distance.mode_match(p, gold) == float(gold[p.argmax()] == gold.max())
        assert entropy(gold) == pytest.approx(scipy_entropy(gold))


def test_refusals_are_set_apart_from_the_scale() -> None:
    w1 = distance.wasserstein([0.5, 0, 0, 0.5], [0, 0, 0.5, 0.5], [0, 1, 2, None])
    assert w1 == pytest.approx(1.0)
    assert math.isnan(distance.wasserstein([0, 0, 1.0], [0.5, 0.5, 0], [0, 1, None]))
    with pytest.raises(PluralismError, match="2 positions for 3"):
        distance.wasserstein([1, 0, 0], [1, 0, 0], [0, 1])


def test_a_tie_in_the_gold_answer_accepts_both_modes() -> None:
    assert distance.mode_match([0.6, 0.4], [0.5, 0.5]) == 1
    assert distance.mode_match([0.4, 0.6], [0.5, 0.5]) == 1
    assert distance.mode_match([0.4, 0.6], [0.6, 0.4]) == 0


@pytest.mark.parametrize("true", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_is_the_one_that_was_applied(true: float) -> None:
    rng = np.random.default_rng(1)
    gold = [rng.dirichlet(np.ones(n)).tolist() for n in rng.integers(2, 6, 200)]
    predicted = [distance.temper(q, 1 / true) for q in gold]
    assert distance.fit_temperature(predicted, gold) == pytest.approx(true, rel=0.02)


@pytest.mark.parametrize(
    "bad",
    [[], [1.0], [0.5, 0.4], [-0.5, 1.5], [math.nan, 1.0], [math.inf, 0.0], [0.0, 0.0], [2.0, 2.0]],
)
@pytest.mark.parametrize(
    "function",
    [distance.js_distance, distance.total_variation, distance.kl_divergence, distance.mode_match],
)
def test_no_distribution_no_distance(bad: list[float], function: Any) -> None:
    with pytest.raises(PluralismError):
        function(bad, [0.5, 0.5])
    with pytest.raises(PluralismError):
        function([0.5, 0.5], bad)
