"""Tails of the binomial distribution compared with exact fractions, and bounds of means with the normal ones."""

from __future__ import annotations

from fractions import Fraction
from math import comb, isnan

import numpy as np
import pytest

from prefscope.statistics import bootstrap_bounds, normal_bounds, upper_tail


@pytest.mark.parametrize(
    ("successes", "trials", "share"), [(10, 10, 0.5), (40, 41, 0.5), (170, 200, 0.75), (3, 50, 0.01)]
)
def test_the_upper_tail_is_the_sum_of_its_terms(successes: int, trials: int, share: float) -> None:
    p = Fraction(share)
    exact = sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(successes, trials + 1))
    assert upper_tail(successes, trials, share) == pytest.approx(float(exact), rel=1e-9)


def test_the_tail_of_a_certain_event_is_1_and_of_an_impossible_one_0() -> None:
    assert [upper_tail(0, 10, 0.5), upper_tail(10, 10, 1.0), upper_tail(1, 10, 0.0)] == [1.0, 1.0, 0.0]


@pytest.mark.parametrize("size", [2_000, 300_000])
def test_bootstrap_bounds_of_many_normal_values_are_close_to_the_normal_ones(size: int) -> None:
    values = np.random.default_rng(0).normal(3.0, 1.0, size)
    width = 1 / size**0.5
    assert bootstrap_bounds(values) == pytest.approx(normal_bounds(values), abs=0.25 * width)


def test_bootstrap_bounds_of_skewed_values_are_skewed_too() -> None:
    values = np.array([0.0] * 9 + [10.0])
    low, high = bootstrap_bounds(values)
    assert low == 0.0
    assert high - values.mean() > values.mean() - low


def test_bootstrap_bounds_are_the_same_each_time() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert bootstrap_bounds(values) == bootstrap_bounds(values.copy())


def test_one_value_has_no_bounds() -> None:
    assert all(map(isnan, (*bootstrap_bounds(np.ones(1)), *normal_bounds(np.ones(1)))))
