"""The noise floor, and the margins within it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prefscope.preference.noise import noise_floor, within_noise


def test_the_floor_is_the_99th_percentile_of_the_absolute_change() -> None:
    some = np.zeros(101)
    others = np.where(np.arange(101) % 2, 1.0, -1.0) * np.arange(101.0)
    assert noise_floor(some, others) == 99.0


def test_pairs_that_are_not_finite_are_excluded_from_the_floor() -> None:
    assert noise_floor(np.array([1.0, math.nan, 2.0]), np.array([1.5, 1.0, math.inf])) == 0.5
    assert math.isnan(noise_floor(np.array([math.nan]), np.array([1.0])))


@pytest.mark.parametrize(("beta", "within"), [(0.1, [True, True, False, False]), (1.0, [True, True, True, False])])
def test_margins_up_to_beta_times_the_floor_are_within_it(beta: float, within: list[bool]) -> None:
    assert within_noise(np.array([0.0, -0.05, 0.06, math.nan]), 0.5, beta).tolist() == within
