"""Tails of the binomial distribution, against exact fractions."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest

from prefscope.statistics import upper_tail


@pytest.mark.parametrize(
    ("successes", "trials", "share"), [(10, 10, 0.5), (40, 41, 0.5), (170, 200, 0.75), (3, 50, 0.01)]
)
def test_the_upper_tail_is_the_sum_of_its_terms(successes: int, trials: int, share: float) -> None:
    p = Fraction(share)
    exact = sum(comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(successes, trials + 1))
    assert upper_tail(successes, trials, share) == pytest.approx(float(exact), rel=1e-9)


def test_the_tail_of_what_is_certain_is_1_and_of_what_is_impossible_0() -> None:
    assert [upper_tail(0, 10, 0.5), upper_tail(10, 10, 1.0), upper_tail(1, 10, 0.0)] == [1.0, 1.0, 0.0]
