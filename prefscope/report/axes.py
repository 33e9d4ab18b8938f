"""Ranges, bins and ticks shared by terminal plots and the SVG plots of report files."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TAIL_PERCENT = 1  # values beyond these percentiles are drawn at the border
MIN_PAIRS_FOR_TAILS = 100


def histogram_edges(finite: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the bin edges of a histogram `width` cells wide; the first and the last bin include the tails."""
    return bins_around_zero(finite, max(8, min((width - 8) // 2, round(4 * finite.size**0.5))))


def bins_around_zero(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return the edges of about `bins` equal bins over the range of the values and 0, with an edge at 0."""
    low, high = range_without_tails(values)
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12:  # noqa: PLR2004 (every pair a tie)
        low, high = -1.0, 1.0
    step = (high - low) / bins
    first, last = int(np.floor(low / step + 1e-9)), int(np.ceil(high / step - 1e-9))
    return np.arange(first, last + 1, dtype=np.float64) * step


def range_without_tails(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of the values, without the outermost percentiles if there are many."""
    if len(values) < MIN_PAIRS_FOR_TAILS:
        return float(values.min()), float(values.max())
    low, high = np.percentile(values, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return float(low), float(high)


def around_zero(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the range to draw values in; it includes 0."""
    low, high = range_without_tails(values)
    return widened(min(low, 0.0), max(high, 0.0))


def widened(low: float, high: float) -> tuple[float, float]:
    """Return the range, widened if it is empty."""
    return (low - 1.0, high + 1.0) if high - low < 1e-12 else (low, high)  # noqa: PLR2004 (every value the same)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers in a range.

    >>> nice_ticks(-2.3, 4.1)
    [-2.0, 0.0, 2.0, 4.0]
    """
    if high <= low:
        return [low]
    step = nice_step((high - low) / count)
    first = int(np.ceil(low / step - 1e-9))
    return [round(step * i, 12) for i in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def nice_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 times a power of ten that is at least `least`, which is positive.

    >>> nice_step(0.018), nice_step(3.0)
    (0.02, 5.0)
    """
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= least))
