"""Subsets: accuracy and mean margin of groups of pairs, with intervals and a test corrected for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.diagnostics.diagnostic import Values
from prefscope.statistics import LEVEL, mean_interval, wilson_interval


@dataclass(frozen=True, slots=True)
class Subset:
    """The figures of a group of pairs."""

    pairs: int
    """Number of pairs in the group with finite log-probs."""
    accuracy: float
    """Share of margins above 0."""
    accuracy_low: float
    accuracy_high: float
    """95% Wilson interval."""
    margin: float
    """Mean margin, in beta·nats."""
    margin_low: float
    margin_high: float
    """Student's 95% interval of the mean margin; nan for a single pair."""
    differs: bool
    """Whether the accuracy differs from that of all other pairs by Fisher's exact test at the 5% level, with Bonferroni
    correction for the number of groups."""


def subsets(margins: Values, groups: NDArray[np.int64], number: int) -> tuple[Subset, ...]:
    """Compute accuracy and mean margin of each group of pairs, with 95% intervals.

    Args:
        margins: Margins in beta·nats; only finite values. Shape (pairs,).
        groups: Index of each pair's group, from 0. Shape (pairs,).
        number: Number of groups; the figures of an empty one are nan.

    References:
        Wilson 1927, JASA 22; Student 1908, Biometrika 6; Fisher 1922, JRSS 85 (exact test); Dunn 1961, JASA 56
        (Bonferroni correction).
    """
    wins = margins > 0
    sizes = np.bincount(groups, minlength=number).tolist()
    won = np.bincount(groups, weights=wins, minlength=number).astype(np.int64).tolist()
    order = np.argsort(groups, kind="stable")
    parts = np.split(margins[order], np.cumsum(sizes)[:-1]) if number else []
    total, all_won = int(margins.size), int(wins.sum())
    found = []
    for size, right, part in zip(sizes, won, parts, strict=True):
        accuracy = right / size if size else float("nan")
        differs = fisher_exact(right, size, all_won, total) < (1 - LEVEL) / number
        found.append(Subset(size, accuracy, *wilson_interval(right, size), *mean_interval(part), differs))
    return tuple(found)


def fisher_exact(right: int, size: int, all_right: int, total: int) -> float:
    """Return the two-sided p-value of `right` among `size` pairs drawn from `total` pairs with `all_right` right ones.

    Definition: twice the smaller tail of the hypergeometric distribution, at most 1.

    References:
        Fisher 1922, "On the interpretation of χ² from contingency tables, and the calculation of P", JRSS 85.

    >>> round(fisher_exact(3, 4, 4, 8), 4), fisher_exact(2, 4, 4, 8)  # the lady tasting tea
    (0.4857, 1.0)
    """
    low, high = max(0, size - (total - all_right)), min(size, all_right)
    at = np.arange(low, high, dtype=np.float64)
    ratios = (all_right - at) * (size - at) / ((at + 1) * (total - all_right - size + at + 1))
    logs = np.append(0.0, np.cumsum(np.log(ratios)))
    shares = np.exp(logs - logs.max())
    tails = shares[: right - low + 1].sum(), shares[right - low :].sum()
    return min(1.0, 2 * float(min(tails) / shares.sum()))


def quantile_edges(values: Values, bins: int) -> list[float]:
    """Return the inner edges of bins of about equal size over the finite values, ascending and distinct.

    An edge is the smallest value of the bin above it, so that no bin is empty.

    >>> quantile_edges(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    [3.0]
    """
    finite = np.sort(values[np.isfinite(values)])
    if finite.size == 0:
        return []
    at: Sequence[int] = [finite.size * step // bins for step in range(1, bins)]
    edges = np.unique(finite[at])
    return [float(edge) for edge in edges if edge > finite[0]]
