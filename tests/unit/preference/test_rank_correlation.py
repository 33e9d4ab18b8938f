"""Rank correlation compared with values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prefscope.preference.diagnostics import rank_correlation


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([1, 2, 3, 4], [2, 4, 8, 16], 1.0),
        ([1, 2, 3, 4], [9, 3, 1, 0], -1.0),
        ([1, 2, 3], [2, 1, 3], 0.5),
        ([1, 2, 2, 3], [1, 2, 3, 4], 0.9486832980505138),  # ties have their mean rank
        ([1, 2, math.nan, 3], [2, 1, 0, 3], 0.5),
        ([1, 2, 3, math.inf], [2, 1, 3, 0], 0.5),
    ],
)
def test_the_rank_correlation_is_that_of_the_finite_pairs(x: list[float], y: list[float], expected: float) -> None:
    assert rank_correlation(np.array(x, dtype=float), np.array(y, dtype=float)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("x", "y"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0]), ([math.nan] * 2, [1.0, 2.0])])
def test_there_is_no_rank_correlation_without_two_different_values(x: list[float], y: list[float]) -> None:
    assert math.isnan(rank_correlation(np.array(x), np.array(y)))


@pytest.mark.parametrize("scale", [1.0, 0.5, 1e15, 1e300], ids=["whole", "halves", "far apart", "beyond integers"])
def test_ties_have_their_mean_rank(scale: float) -> None:
    x = np.array([3.0, -1.0, 3.0, 0.0, 5.0, 3.0]) * scale  # ranks 4, 1, 4, 2, 6, 4
    ranks = np.array([4.0, 1.0, 4.0, 2.0, 6.0, 4.0])
    y = np.array([1.0, 2.0, 4.0, 3.0, 6.0, 5.0])
    assert rank_correlation(x, y) == pytest.approx(np.corrcoef(ranks, y)[0, 1])
