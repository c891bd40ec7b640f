"""The benchmark's page: what is estimated from a sample says how well."""

from __future__ import annotations

import pytest

from tests.bench.report import estimate, three


def test_an_estimate_knows_its_error() -> None:
    assert estimate([1.0, 3.0], 2) == (4.0, 0.0)
    seconds, error = estimate([1.0, 3.0], 8)
    assert seconds == 16
    assert error == pytest.approx(8 * 2**0.5 / 2**0.5 * 0.75**0.5)
    assert estimate([1.0, 3.0], 0) == (0.0, 0.0)


def test_a_spread_is_least_median_and_most() -> None:
    assert three([3.0, 1.0, 2.0]) == "1.00, 2.00, 3.00"
    assert three([1.5], 1) == "1.5"
