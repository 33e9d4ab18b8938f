"""Subsets: accuracy and mean margin of parts of the data, with intervals that know how many parts there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.diagnostics.diagnostic import Values
from prefscope.statistics import LEVEL, mean_interval, wilson_interval


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of the pairs."""

    pairs: int
    """In the group, with finite log-probs."""
    accuracy: float
    """Share of margins above 0."""
    accuracy_low: float
    accuracy_high: float
    """Wilson's 95% interval."""
    margin: float
    """Mean margin, in beta·nats."""
    margin_low: float
    margin_high: float
    """Student's 95% interval of the mean margin; nan of a single pair."""
    differs: bool
    """Whether the accuracy is unlike that of all other pairs by Fisher's exact test, so far that by chance alone one
    table in twenty at most would have such a group (Bonferroni)."""


def subsets(margins: Values, groups: NDArray[np.int64], number: int) -> tuple[Subset, ...]:
    """Return accuracy and mean margin of each group of pairs, with 95% intervals.

    Args:
        margins: In beta·nats; only finite values. Shape (pairs,).
        groups: The number of each pair's group, from 0. Shape (pairs,).
        number: How many groups there are; an empty one has nan figures.

    References:
        Wilson 1927, JASA 22; Student 1908, Biometrika 6; Fisher 1922, JRSS 85 (exact test); Dunn 1961, JASA 56
        (correction by Bonferroni).
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
    """Return the p-value of so uneven a share: `right` of `size` pairs that were drawn of `total` with `all_right`.

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
    """Return the inner edges of bins of about equal size over the finite values, ascending and all different.

    An edge is the least value of the bin above it, so that no bin is empty.

    >>> quantile_edges(np.array([1.0, 2.0, 3.0, 4.0]), 2)
    [3.0]
    """
    finite = np.sort(values[np.isfinite(values)])
    if finite.size == 0:
        return []
    at: Sequence[int] = [finite.size * step // bins for step in range(1, bins)]
    edges = np.unique(finite[at])
    return [float(edge) for edge in edges if edge > finite[0]]
