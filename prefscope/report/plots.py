"""Plots made of characters. Data are reduced in NumPy first, so a million pairs draw as fast as a hundred."""

from __future__ import annotations

import numpy as np
import plotext
from numpy.typing import NDArray

TAIL_PERCENT = 1  # what lies beyond these percentiles is shown at the border
MIN_PAIRS_FOR_TAILS = 100


def margin_histogram(margins: NDArray[np.float64], width: int, height: int) -> str:
    """Return a histogram of margins, wrong ones as ▒ and right ones as █; empty without a finite margin.

    No bin straddles 0, and a tie counts as right: it is not wrong.
    """
    finite = margins[np.isfinite(margins)]
    if finite.size == 0:
        return ""
    edges = bins_around_zero(finite, max(8, min((width - 8) // 2, round(4 * finite.size**0.5))))
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    middles = (edges[:-1] + edges[1:]) / 2
    figure = _figure(width, height)
    for part, marker in ((middles < 0, "▒"), (middles >= 0, "█")):
        if counts[part].sum():  # the other bins as empty bars: plotext takes the width of a bar from its neighbours
            heights = np.where(part, counts, 0).tolist()
            figure.draw(figure.bar(middles.tolist(), heights, marker=marker, width=1, lines=True))
    figure.ruler("x", "lower").lim(float(edges[0]), float(edges[-1]))
    _ticks(figure, "x", float(edges[0]), float(edges[-1]), signed=True)
    _ticks(figure, "y", 0.0, float(counts.max()))
    return _drawn(figure)


def bins_around_zero(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return about so many bin edges of equal width over the values' range, with an edge at 0."""
    low, high = _range_without_tails(values)
    low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12:  # noqa: PLR2004 (every pair a tie)
        low, high = -1.0, 1.0
    step = (high - low) / bins
    first, last = int(np.floor(low / step + 1e-9)), int(np.ceil(high / step - 1e-9))
    return np.arange(first, last + 1, dtype=np.float64) * step


def _range_without_tails(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the least and the greatest value, of many pairs without the outermost ones."""
    if len(values) < MIN_PAIRS_FOR_TAILS:
        return float(values.min()), float(values.max())
    low, high = np.percentile(values, [TAIL_PERCENT, 100 - TAIL_PERCENT])
    return float(low), float(high)


def reward_scatter(chosen: NDArray[np.float64], rejected: NDArray[np.float64], width: int, height: int) -> str:
    """Return rejected against chosen values as braille dots with the diagonal; right pairs lie below it.

    Of many pairs the outermost ones are drawn on the border.
    """
    finite = np.isfinite(chosen) & np.isfinite(rejected)
    if not finite.any():
        return ""
    x, y = chosen[finite], rejected[finite]
    figure = _figure(width, height)
    (low_x, high_x), (low_y, high_y) = _range_without_tails(x), _range_without_tails(y)
    low, high = min(low_x, low_y), max(high_x, high_y)
    x, y = np.clip(x, low, high), np.clip(y, low, high)
    if high - low < 1e-12:  # noqa: PLR2004 (every value the same)
        low, high = low - 1.0, high + 1.0
    figure.draw(figure.signal([low, high], [low, high], marker="·").lines())
    # A dot of braille is half a cell wide and a quarter of a cell high: more points than dots cannot be seen.
    cells_x = np.round((x - low) / (high - low) * (2 * width)).astype(np.int64)
    cells_y = np.round((y - low) / (high - low) * (4 * height)).astype(np.int64)
    _, kept = np.unique(cells_x * (4 * height + 1) + cells_y, return_index=True)
    figure.draw(figure.signal(x[kept].tolist(), y[kept].tolist(), marker="braille"))
    for axis in ("x", "y"):
        figure.ruler(axis, 0).lim(low, high)
        _ticks(figure, axis, low, high, signed=True)
    return _drawn(figure)


def side_by_side(left: str, right: str, gap: int = 3) -> str:
    """Return two plots in one block of lines."""
    a, b = left.split("\n"), right.split("\n")
    width = max(map(len, a), default=0) + gap
    height = max(len(a), len(b))
    a += [""] * (height - len(a))
    b += [""] * (height - len(b))
    return "\n".join((one.ljust(width) + other).rstrip() for one, other in zip(a, b, strict=True))


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about `count` round numbers within a range.

    >>> nice_ticks(-2.3, 4.1)
    [-2.0, 0.0, 2.0, 4.0]
    """
    raw = (high - low) / count
    if raw <= 0:
        return [low]
    power = 10.0 ** np.floor(np.log10(raw))
    step = float(next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw))
    first = int(np.ceil(low / step - 1e-9))
    return [round(step * i, 12) for i in range(first, int(np.floor(high / step + 1e-9)) + 1)]


def _figure(width: int, height: int) -> plotext.figure:
    """Return plotext's one figure, emptied, of a size in cells, without colours."""
    plotext.terminal.limit(False, False)  # noqa: FBT003 (else plotext clips to the terminal it finds)
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, height)
    figure.axes(False, axis="x", side="upper")  # noqa: FBT003 (plotext's own argument)
    figure.axes(False, axis="y", side="right")  # noqa: FBT003 (the same)
    return figure


def _ticks(figure: plotext.figure, axis: str, low: float, high: float, *, signed: bool = False) -> None:
    ticks = nice_ticks(low, high)
    if not signed:  # counts
        ticks = [tick for tick in ticks if tick.is_integer()]
    labels = [f"{tick:+g}" if signed and tick else f"{tick:g}" for tick in ticks]
    figure.ruler(axis, 0).ticks(ticks, labels)


def _drawn(figure: plotext.figure) -> str:
    lines = str(figure.build().string(colorless=True)).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")
