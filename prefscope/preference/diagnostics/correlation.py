"""Rank correlation of two quantities."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def rank_correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return Spearman's ρ over the pairs in which both values are finite; ties get their mean rank.

    The result is nan if there are fewer than two such pairs, or one of the arrays is constant.

    References:
        Spearman 1904, "The proof and measurement of association between two things".

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([10.0, 100.0, 1000.0]))
    1.0
    """
    finite = np.isfinite(x) & np.isfinite(y)
    a, b = (_mean_ranks(values if finite.all() else values[finite]) for values in (x, y))
    if a.size == 0:
        return math.nan
    a -= a.mean()
    b -= b.mean()
    # Not with @: it starts the threads of BLAS, which then keep a core busy for 90 ms.
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float(np.clip((a * b).sum() / size, -1.0, 1.0)) if size else math.nan


def _mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rank of each value; equal values get the mean of their ranks."""
    order = np.argsort(values)
    begins = np.flatnonzero(np.diff(values[order], prepend=np.nan))
    ranks = np.empty(values.size)
    if begins.size == values.size:  # no ties
        ranks[order] = np.arange(1, values.size + 1)
        return ranks
    counts = np.diff(begins, append=values.size)
    ranks[order] = np.repeat(begins + (counts + 1) / 2, counts)
    return ranks
