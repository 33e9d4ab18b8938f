"""Subsets: accuracy and mean margin of parts of the data, with intervals that know how many parts there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.diagnostics.diagnostic import Values
from prefscope.preference.diagnostics.intervals import LEVEL, mean_interval, wilson_interval


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of the pairs."""

    pairs: int
    accuracy: float
    """Share of margins above 0."""
    accuracy_low: float
    accuracy_high: float
    """Wilson's 95% interval."""
    margin: float
    margin_low: float
    margin_high: float
    """Student's 95% interval of the mean margin, in beta·nats; nan of a single pair."""
    differs: bool
    """Whether the accuracy of all other pairs is outside an interval so wide that by chance alone hardly one subset in
    twenty such tables would have it so (Bonferroni)."""


def subsets(margins: Values, groups: NDArray[np.int64], number: int) -> tuple[Subset, ...]:
    """Return accuracy and mean margin of each group of pairs, with 95% intervals.

    Args:
        margins: In beta·nats; only finite values. Shape (pairs,).
        groups: The number of each pair's group, from 0. Shape (pairs,).
        number: How many groups there are; an empty one has nan figures.

    References:
        Wilson 1927, JASA 22; Student 1908, Biometrika 6; Dunn 1961, JASA 56, for the correction by Bonferroni.
    """
    wins = margins > 0
    sizes = np.bincount(groups, minlength=number).tolist()
    won = np.bincount(groups, weights=wins, minlength=number).astype(np.int64).tolist()
    order = np.argsort(groups, kind="stable")
    parts = np.split(margins[order], np.cumsum(sizes)[:-1]) if number else []
    level = 1 - (1 - LEVEL) / max(number, 1)
    total, all_won = int(margins.size), int(wins.sum())
    found = []
    for size, right, part in zip(sizes, won, parts, strict=True):
        accuracy = right / size if size else float("nan")
        others = (all_won - right) / (total - size) if total > size else accuracy
        low, high = wilson_interval(right, size, level)
        differs = bool(size and not low <= others <= high)
        found.append(Subset(size, accuracy, *wilson_interval(right, size), *mean_interval(part), differs))
    return tuple(found)


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
