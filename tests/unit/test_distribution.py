"""Properties of distributions and mixtures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluralism_eval.distribution import entropy, mix, normalise, to_logprobs
from pluralism_eval.errors import PluralismError

logprobs = st.lists(st.floats(-700, 0), min_size=1, max_size=100)


@given(logprobs)
def test_normalise_is_a_softmax_with_its_mass(values: list[float]) -> None:
    distribution, mass = normalise(values)
    expected = np.exp(values - np.max(values))
    np.testing.assert_allclose(distribution, expected / expected.sum(), atol=1e-12)
    assert mass == pytest.approx(np.exp(values).sum(), rel=1e-9, abs=1e-300)


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=9))
def test_to_logprobs_inverts_normalise(values: list[float]) -> None:
    np.testing.assert_allclose(to_logprobs(*normalise(values)), values, rtol=1e-9, atol=1e-9)


@given(st.lists(st.lists(st.floats(-9, 0), min_size=3, max_size=3), min_size=1, max_size=6))
def test_a_mixture_is_a_distribution_between_its_parts(rows: list[list[float]]) -> None:
    parts = [normalise(row)[0] for row in rows]
    mixed = mix(parts, [1 / len(parts)] * len(parts))
    assert sum(mixed) == pytest.approx(1)
    for i, value in enumerate(mixed):
        assert min(p[i] for p in parts) - 1e-12 <= value <= max(p[i] for p in parts) + 1e-12


def test_mix_weights_each_community() -> None:
    assert mix([[1, 0], [0, 1]], [0.25, 0.75]) == [0.25, 0.75]


@pytest.mark.parametrize("bad", [[], [float("nan"), -1], [-math.inf, -math.inf], [math.inf, -1]])
def test_no_distribution_is_an_error(bad: list[float]) -> None:
    with pytest.raises(PluralismError):
        normalise(bad)


@pytest.mark.parametrize("weights", [[], [0.5, 0.6], [1.5, -0.5]])
def test_weights_must_be_a_distribution(weights: list[float]) -> None:
    with pytest.raises(PluralismError, match="sum to 1"):
        mix([[1.0]] * max(1, len(weights)), weights)


def test_entropy() -> None:
    assert entropy([0.25] * 4) == pytest.approx(math.log(4))
    assert entropy([1.0, 0.0]) == 0
