"""What is hidden or sampled: bounds contain every possible truth, and are reached."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval.distribution import mean_read, normalise
from pluralism_eval.metrics import bounds, classification, options
from pluralism_eval.metrics.distance import js_distance
from pluralism_eval.replies import parse_shares
from pluralism_eval.schema import OptionScores
from pluralism_eval.uncertainty import lower, mixed, part

shares = st.lists(st.floats(0.001, 1), min_size=2, max_size=6)


def scores(values: list[float], unseen: float, samples: int = 0) -> OptionScores:
    logs = tuple(math.log(v) if v > 0 else -math.inf for v in values)
    return OptionScores(logs, 0, unseen=unseen, samples=samples)


@given(shares, shares, st.integers(0, 2**32 - 1), st.floats(0.01, 0.9))
def test_bounds_contain_every_truth_and_are_reached(
    values: list[float], gold: list[float], seed: int, hidden: float
) -> None:
    n = min(len(values), len(gold))
    rng = np.random.default_rng(seed)
    truth = np.asarray(values[:n]) / (sum(values[:n]) * 1.1)  # 9 % of mass on other tokens
    target = [g / sum(gold[:n]) for g in gold[:n]]
    kept = truth * (1 - hidden * rng.random(n))
    unseen = float(1 - kept.sum())  # what is hidden of the options, and all other tokens
    least = lower(scores(kept.tolist(), unseen))
    assert sum(least) == pytest.approx(1 - unseen / (kept.sum() + unseen))
    low, high = bounds.distance_bounds(least, target)
    real = js_distance((truth / truth.sum()).tolist(), target)
    assert low - 1e-7 <= real <= high + 1e-7
    spare = 1 - sum(least)
    drawn = rng.dirichlet(np.ones(n) * 0.3, 200) * spare + np.asarray(least)
    distances = [js_distance(row.tolist(), target) for row in drawn]
    assert low - 1e-7 <= min(distances)
    assert max(distances) <= high + 1e-7
    best = js_distance(bounds._filled(least, target), target)
    assert best == pytest.approx(low, abs=1e-9)
    index = target.index(max(target))
    sure, maybe = bounds.match_bounds(least, index)
    for row in drawn.tolist():
        assert sure <= float(row.index(max(row)) == index) <= maybe


@given(st.lists(st.tuples(shares, st.floats(0, 0.5)), min_size=1, max_size=4), st.integers(0, 999))
def test_mixtures_of_hidden_distributions_are_bounded_by_their_parts(
    given_parts: list[tuple[list[float], float]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    n = min(len(values) for values, _ in given_parts)
    prompts = [
        scores([v / (sum(values[:n]) * 2) for v in values[:n]], unseen)
        for values, unseen in given_parts
    ]
    weights = rng.dirichlet(np.ones(len(prompts))).tolist()
    least, samples = mixed([part(s) for s in prompts], weights)
    assert samples == 0
    mean, _ = mean_read([part(s)[:2] for s in prompts], weights)
    shown = least or tuple(mean)
    assert all(low <= p + 1e-9 for low, p in zip(shown, mean, strict=True))
    truth = np.zeros(n)
    for s, w in zip(prompts, weights, strict=True):
        seen = np.exp(s.logprobs) + s.unseen * rng.dirichlet(np.ones(n + 1))[:n]
        truth += w * seen / seen.sum()
    assert all(low <= p + 1e-9 for low, p in zip(shown, truth.tolist(), strict=True))
    assert bool(least) == any(unseen > 0 for _, unseen in given_parts)


def test_nothing_seen_leaves_everything_possible_and_refusals_leave_nothing() -> None:
    blind, refused = scores([0, 0], 1.0), scores([0, 0], 0.0)
    assert lower(blind) == (0.0, 0.0)
    assert bounds.distance_bounds([0.0, 0.0], [1.0, 0.0]) == pytest.approx(
        (0.0, math.sqrt(math.log(2)))
    )
    assert mixed([part(refused), part(refused)]) == ((), 0.0)
    least, _ = mixed([part(refused), part(blind)])
    assert least == (0.0, 0.0)


def test_samples_of_a_mixture_add_up() -> None:
    parts = [part(scores([0.5, 0.5], 0.0, samples=20)) for _ in range(6)]
    assert mixed(parts)[1] == pytest.approx(120)
    assert mixed(parts, [1, 0, 0, 0, 0, 0])[1] == pytest.approx(20)
    assert mixed([part(scores([0.5, 0.5], 0.0))])[1] == 0.0


def test_the_sampling_error_is_that_of_repeated_sampling() -> None:
    p, gold, n = [0.7, 0.3], [0.5, 0.5], 50
    rng = np.random.default_rng(0)
    real = np.std([js_distance((rng.multinomial(n, p) / n).tolist(), gold) for _ in range(4000)])
    found = bounds.sampling_error(p, n, lambda d: js_distance(d, gold), "seed")
    assert found == pytest.approx(real, rel=0.15)
    assert bounds.sampling_error(p, 0, lambda d: 1 / 0, "seed") == 0.0
    assert bounds.error_of_mean([0.3, 0.4]) == pytest.approx(0.25)


def doc(**more: object) -> dict[str, object]:
    return {
        "id": "1", "cluster": "q", "group": "Germany", "gold": [0.6, 0.4], "target": 0, "options": ["yes", "no"],
        "letters": ["A", "B"], "pluralism": {"orders": 1, "preset": "paper"}, **more,
    }  # fmt: skip


def test_responses_carry_bounds_to_every_score() -> None:
    exact = options.globalopinionqa(doc(), [(math.log(0.6), True), (math.log(0.3), False)])
    assert exact["jsd_lower"] == exact["jsd"] == exact["jsd_upper"]
    assert exact["hidden_probability"] == exact["jsd_sampling_error"] == 0
    shown = [(math.log(0.6), True, 0.5, 0.0), (math.log(0.3), False, 0.25, 0.0)]
    found = options.globalopinionqa(doc(), shown)
    assert found["jsd_lower"] < found["jsd"] < found["jsd_upper"]
    assert found["hidden_probability"] == pytest.approx(0.25)
    assert (found["match_lower"], found["match"], found["match_upper"]) == (0.0, 1.0, 1.0)
    sampled = [(math.log(0.6), True, 2 / 3, 10.0), (math.log(0.3), False, 1 / 3, 10.0)]
    assert options.globalopinionqa(doc(), sampled)["jsd_sampling_error"] > 0
    vk = classification.vk(
        doc(), [(math.log(0.6), True, 0.5, 0.0), (-9.0, False, 0.0, 0.0), (-9.0, False, 0.0, 0.0)]
    )
    assert (vk["acc_lower"], vk["acc_upper"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ('{"A": 40, "B": 60}', [0.4, 0.6]),
        ('{"B": 0.25, "A": 0.75}', [0.75, 0.25]),
        ('{"A": 40}', None),
        ('{"A": 40, "B": 60, "C": 0}', None),
        ('{"A": true, "B": 100}', None),
        ('{"A": -10, "B": 110}', None),
        ('{"A": 1e999, "B": 1}', None),
        ("[40, 60]", None),
        ("A: 40%\nB: 60%", [0.4, 0.6]),
    ],
)
def test_stated_shares_as_json_or_in_words(reply: str, expected: list[float] | None) -> None:
    assert parse_shares(reply, ["A", "B"]) == expected


def test_the_mean_of_exact_readings_is_what_normalise_gives() -> None:
    logs = (math.log(0.2), math.log(0.6))
    assert part(OptionScores(logs, 1))[0] == pytest.approx(normalise(logs)[0])
