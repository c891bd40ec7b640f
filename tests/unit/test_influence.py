"""Influence against brute force on small games, and against mixtures made by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from pluralism_eval.distribution import mean_read
from pluralism_eval.errors import PluralismError
from pluralism_eval.metrics import shapley
from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.metrics.exchanges import Entailed
from pluralism_eval.metrics.influence import accounted, overton
from pluralism_eval.metrics.mixtures import distances, mixtures, verify
from pluralism_eval.metrics.selections import uniformity

Game = Callable[[np.ndarray], np.ndarray]


def game(table: np.ndarray) -> Game:
    """[2^k][n_games] values as a function of coalitions."""
    return lambda members: table[members @ (1 << np.arange(members.shape[1]))]


def brute_force(value: Game, k: int) -> np.ndarray:
    """[n_games][k]: the mean marginal contribution over all k! orders, one by one."""
    total: Any = 0
    for order in permutations(range(k)):
        members, gains = np.zeros(k, dtype=bool), []
        for player in order:
            before = value(members[None])[0]
            members[player] = True
            gains.append((player, value(members[None])[0] - before))
        total = total + np.array([gain for _, gain in sorted(gains, key=lambda pair: pair[0])])
    return np.asarray(total).T / math.factorial(k)


tables = st.integers(1, 5).flatmap(
    lambda k: st.lists(st.floats(-1, 1), min_size=2 * 2**k, max_size=2 * 2**k).map(
        lambda values: np.array(values).reshape(2**k, 2)
    )
)


@settings(deadline=None)
@given(tables)
def test_exact_is_brute_force(table: np.ndarray) -> None:
    k = int(math.log2(len(table)))
    found = shapley.solve(game(table), k)
    np.testing.assert_allclose(found.shapley, brute_force(game(table), k), atol=1e-12)
    np.testing.assert_allclose(found.shapley.sum(axis=1), table[-1] - table[0], atol=1e-12)
    by_hand = [table[-1] - table[2**k - 1 - (1 << i)] for i in range(k)]
    np.testing.assert_allclose(found.leave_one_out, np.array(by_hand).T, atol=1e-12)
    assert found.sampling_error is None


@settings(deadline=None)
@given(tables, st.randoms())
def test_null_players_get_nothing_and_equal_players_the_same(table: np.ndarray, rng: Any) -> None:
    k = int(math.log2(len(table)))
    members = shapley.coalitions(k + 1)
    # the last player changes nothing
    null = table[members[:, :k] @ (1 << np.arange(k))]
    np.testing.assert_allclose(shapley.exact(game(null), k + 1)[:, k], 0, atol=1e-12)
    np.testing.assert_allclose(
        shapley.exact(game(null), k + 1)[:, :k], shapley.exact(game(table), k), atol=1e-12
    )
    # a value that only depends on the number of players treats all alike
    alike = np.array([rng.random() for _ in range(k + 2)])[members.sum(axis=1)][:, None]
    found = shapley.exact(game(alike), k + 1)
    np.testing.assert_allclose(
        found, np.full((1, k + 1), (alike[-1] - alike[0]) / (k + 1)), atol=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(tables, st.integers(0, 3))
def test_sampled_orders_are_efficient_and_close(table: np.ndarray, seed: int) -> None:
    k = int(math.log2(len(table)))
    found, error = shapley.sampled(game(table), k, 400, seed)
    np.testing.assert_allclose(found.sum(axis=1), table[-1] - table[0], atol=1e-9)
    truth = shapley.exact(game(table), k).mean(axis=0)
    assert (np.abs(found.mean(axis=0) - truth) <= 6 * error + 1e-9).all()


def test_many_players_are_sampled_with_an_error() -> None:
    k = shapley.MAX_EXACT + 1
    worth = np.arange(k) / k
    additive = shapley.solve(lambda members: (members @ worth)[:, None], k, permutations=10)
    np.testing.assert_allclose(additive.shapley[0], worth, atol=1e-12)
    assert additive.sampling_error is not None
    np.testing.assert_allclose(additive.sampling_error, 0, atol=1e-12)

    def any_of_two(members: np.ndarray) -> np.ndarray:
        return (members[:, 0] | members[:, 1]).astype(float)[:, None]

    found = shapley.solve(any_of_two, k)
    assert found.sampling_error is not None
    assert found.shapley[0, :2] == pytest.approx([0.5, 0.5], abs=0.1)
    assert found.sampling_error[0] == pytest.approx(0.5 / math.sqrt(shapley.PERMUTATIONS), rel=0.1)
    assert found.leave_one_out[0].tolist() == [0.0] * k  # each of the two replaces the other


# ---------------------------------------------------------------------- mixtures


def entry(orders: list[list[int]], shown: list[list[float]], names: str = "ab") -> dict[str, Any]:
    """A transcript line: per reading and community the probabilities of the options as shown."""
    n = len(shown[0])
    scores = [
        {"logprobs": [math.log(p / 2) if p else -math.inf for p in row]} for row in shown
    ]  # mass 1/2
    line: dict[str, Any] = {
        "task": "t", "doc_id": 7, "mode": "distributional", "options": list("ABC")[:n],
        "messages": [{"community": c} for c in names * len(orders)],
        "sent": [{"round": "respond", "scores": s} for s in scores],
    }  # fmt: skip
    if orders != [list(range(n))]:
        line["readings"] = [{"order": order} for order in orders]
    return line


def members(*rows: str) -> np.ndarray:
    return np.array([[c == "1" for c in row] for row in rows])


def test_coalitions_answer_with_their_own_mixture() -> None:
    two = entry([[0, 1], [1, 0]], [[0.9, 0.1], [0.5, 0.5], [0.3, 0.7], [0.2, 0.8]])
    one = entry([[0, 1, 2]], [[0.2, 0.3, 0.5], [0, 0, 0]])  # b could not be read
    found = mixtures([two, one], "ab", [0.25, 0.75]).answers(members("00", "10", "01", "11"))
    np.testing.assert_allclose(found[:, 0, :2], [
        [0.5, 0.5],
        [(0.9 + 0.7) / 2, (0.1 + 0.3) / 2],
        [(0.5 + 0.8) / 2, (0.5 + 0.2) / 2],
        [(0.25 * 0.9 + 0.75 * 0.5 + 0.25 * 0.7 + 0.75 * 0.8) / 2, (0.25 * 0.1 + 0.75 * 0.5 + 0.25 * 0.3 + 0.75 * 0.2) / 2],
    ])  # fmt: skip
    np.testing.assert_array_equal(found[:, 0, 2], 0)
    third = [1 / 3] * 3
    np.testing.assert_allclose(found[:, 1], [third, [0.2, 0.3, 0.5], third, [0.2, 0.3, 0.5]])
    nobody = mixtures([two, one], "ab", [0, 1]).answers(members("10"))  # a prior of 0
    np.testing.assert_allclose(nobody[0], [[0.5, 0.5, 0], third])


simplex = st.lists(st.floats(0.01, 1), min_size=3, max_size=3).map(
    lambda v: [x / sum(v) for x in v]
)


@settings(deadline=None)
@given(st.lists(st.one_of(simplex, st.just([0.0] * 3)), min_size=4, max_size=4), simplex, simplex)
def test_all_together_is_what_a_run_computes(
    shown: list[list[float]], weights: list[float], gold: list[float]
) -> None:
    priors = [weights[0] / (1 - weights[2]), weights[1] / (1 - weights[2])]
    line = entry([[0, 1, 2], [1, 2, 0]], shown)  # the second lists option 1 first, option 0 last
    halves = []
    for own in (shown[:2], [[row[2], row[0], row[1]] for row in shown[2:]]):
        halves.append(
            mean_read([(row if any(row) else [1 / 3] * 3, sum(row) / 2) for row in own], priors)
        )
    expected = mean_read(halves)[0]
    mixed = mixtures([line], "ab", priors)
    answer = mixed.answers(members("11"))
    np.testing.assert_allclose(answer[0, 0], expected, atol=1e-12)
    found = distances(answer, np.array([gold]))
    np.testing.assert_allclose(found, [[js_distance(expected, gold)]], atol=1e-7)  # roots of 1e-16
    line["distribution"] = expected
    verify([line], [js_distance(expected, gold)], mixed, np.array([gold]))
    with pytest.raises(PluralismError, match="does not reproduce the run's own answers on 1 of 1"):
        verify([line], [js_distance(expected, gold) + 1e-3], mixed, np.array([gold]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "steerable"}, "its messages are not those of a, b"),
        ({"messages": [{"community": "b"}, {"community": "a"}]}, "its messages are not those of a, b"),
        ({"sent": []}, "does not hold 2 readings of 2 options"),
        ({"sent": [{"round": "respond", "scores": {"logprobs": ["x", "y"]}}] * 2}, "ValueError"),
        ({"sent": [{"round": "respond"}] * 2}, "KeyError"),
    ],
)  # fmt: skip
def test_a_changed_line_is_an_error(change: dict[str, Any], message: str) -> None:
    line = entry([[0, 1]], [[0.9, 0.1], [0.5, 0.5]]) | change
    with pytest.raises(PluralismError, match=rf"t doc 7: .*{message}"):
        mixtures([line], "ab", [0.5, 0.5])


# ---------------------------------------------------------------------- overton, selections

entailment_tables = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.lists(st.booleans(), min_size=n, max_size=n), min_size=3, max_size=3)
)


def doc(table: list[list[bool]], communities: str = "abc") -> Entailed:
    rows = np.array(table, dtype=bool).reshape(len(communities), -1)
    return Entailed(tuple(communities), (False,) * len(communities), rows, rows.size, 0)


@settings(deadline=None)
@given(entailment_tables)
def test_shares_of_a_response_are_shapley_values_of_the_coverage_game(table: list[list[bool]]) -> None:  # fmt: skip
    rows = np.array(table)

    def value(coalitions: np.ndarray) -> np.ndarray:
        return np.array([(rows & s[:, None]).any(axis=0).mean() for s in coalitions])[:, None]

    solution = shapley.solve(value, 3)
    found, alone = accounted(doc(table), "abc")
    np.testing.assert_allclose(found, solution.shapley[0], atol=1e-12)
    np.testing.assert_allclose(alone, solution.leave_one_out[0], atol=1e-12)


def test_overton_leaves_out_empty_responses() -> None:
    docs = [
        doc([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]),
        doc([[0], [0], [1]]),
        doc([[], [], []]),
    ]
    found = overton("t", docs, ["S", "T", "U"], "abc")
    assert (found.left_out, found.total.docs) == (1, 2)
    assert {c: e.value for c, e in found.total.shapley.items()} == {
        "a": (1.5 / 4) / 2, "b": (0.5 / 4) / 2, "c": (1 / 4 + 1) / 2,
    }  # fmt: skip
    assert {c: e.value for c, e in found.total.leave_one_out.items()} == {
        "a": (1 / 4) / 2, "b": 0.0, "c": (1 / 4 + 1) / 2,
    }  # fmt: skip
    assert found.total.everyone.value == (3 / 4 + 1) / 2
    assert found.total.shapley["c"].low < found.total.shapley["c"].high
    with pytest.raises(PluralismError, match="all 1 responses are empty"):
        overton("t", docs[2:], ["U"], "abc")


def test_overton_of_one_message_a_doc() -> None:
    one = doc([[True, False]], communities="b")
    assert [v.tolist() for v in accounted(one, "abc")] == [[0, 0.5, 0], [0, 0.5, 0]]


def test_uniformity_is_pearsons_test_and_simulated_where_few_are_expected() -> None:
    counts = [30, 10, 20, 12]
    found = uniformity(counts)
    assert (found.statistic, found.p_value) == pytest.approx(tuple(chisquare(counts)))
    assert not found.simulated
    few = uniformity([4, 0])  # of 16 outcomes two are as uneven: p = 1/8
    assert few.simulated
    assert few.p_value == pytest.approx(1 / 8, abs=0.01)
    assert math.isnan(uniformity([0, 0]).p_value)
    assert math.isnan(uniformity([3]).p_value)
