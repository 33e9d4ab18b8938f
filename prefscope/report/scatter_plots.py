"""Scatter plots of braille dots for terminals. Points outside the frame are counted at its edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.report.axes import around_zero, range_without_tails, widened
from prefscope.report.plots import draw_ticks, drawn, new_figure

BLANK = "\u2800"
BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""What each dot of a cell (four rows of two) adds to the code of an empty cell."""
SHADES = "⠁⠃⠇⡇⣇⣧⣷⣿"
"""Cells of a dense plot, from few points to many."""
DENSE = 4
"""Points per cell of the frame from which cells are shaded by their count."""
CHUNK_POINTS = 65_536

Values = NDArray[np.float64]
Limits = tuple[float, float]
Line = tuple[list[float], list[float]]


@dataclass(frozen=True, slots=True)
class Points:
    """The finite points of a plot, with the limits of its axes and the lines under it."""

    x: Values
    y: Values
    across: Limits
    up: Limits
    lines: tuple[Line, ...]


def reward_points(chosen: Values, rejected: Values) -> Points:
    """Return rejected against chosen values with the diagonal; right pairs lie below it."""
    x, y = _finite(chosen, rejected)
    if not x.size:
        return Points(x, y, (0.0, 1.0), (0.0, 1.0), ())
    ranges = (range_without_tails(x), range_without_tails(y))
    both = widened(min(low for low, _ in ranges), max(high for _, high in ranges))
    return Points(x, y, both, both, (([*both], [*both]),))


def points(x: Values, y: Values) -> Points:
    """Return y against x with the line y = 0."""
    x, y = _finite(x, y)
    if not x.size:
        return Points(x, y, (0.0, 1.0), (0.0, 1.0), ())
    across, up = widened(*range_without_tails(x)), around_zero(y)
    return Points(x, y, across, up, (([*across], [0.0, 0.0]),))


def quadrant_points(x: Values, y: Values) -> Points:
    """Return y against x, all finite, with the lines x = 0 and y = 0."""
    across, up = (around_zero(one) if one.size else (0.0, 1.0) for one in (x, y))
    return Points(x, y, across, up, (([*across], [0.0, 0.0]), ([0.0, 0.0], [*up])))


def _finite(x: Values, y: Values) -> tuple[Values, Values]:
    finite = np.isfinite(x) & np.isfinite(y)
    return (x, y) if finite.all() else (x[finite], y[finite])


def draw_points(found: Points, width: int, height: int) -> str:
    """Return a plot as text; empty without points or room.

    Args:
        found: The points.
        width: In cells.
        height: In cells.
    """
    if not found.x.size:
        return ""
    figure = new_figure(width, height)
    for line in found.lines:
        figure.draw(figure.signal(*line, marker="·").lines())
    for axis, limits in (("x", found.across), ("y", found.up)):
        figure.ruler(axis, 0).lim(*limits)
        draw_ticks(figure, axis, *limits, signed=True)
    frame = [line.ljust(width) for line in drawn(figure).split("\n")]
    left, rows = area_of(frame)
    if left >= width or not rows:
        return ""
    counts, beyond = _counted(found, width - left, rows)
    for at, cells in enumerate(_cells(counts, width - left, rows)):
        pairs = zip(cells, frame[at][left:], strict=True)
        frame[at] = frame[at][:left] + "".join(under if cell == BLANK else cell for cell, under in pairs)
    _note_beyond(frame, left, rows, beyond)
    return "\n".join(line.rstrip() for line in frame)


def area_of(lines: list[str]) -> tuple[int, int]:
    """Return the first column right of the y axis, and the number of lines above the x axis."""
    rows = next((at for at, line in enumerate(lines) if "└" in line), 0)
    return 1 + max(lines[0].find("│"), lines[0].find("┤")), rows


def cell_of(found: Points, plot: str, x: float, y: float) -> tuple[int, int]:
    """Return the column and row in a drawn plot of a point inside its frame."""
    left, columns, rows = _size(plot)
    down = (found.up[1] - y) / (found.up[1] - found.up[0])
    right = (x - found.across[0]) / (found.across[1] - found.across[0])
    across, below = (int(_dot(np.array([share]), dots)[0]) for share, dots in ((right, 2 * columns), (down, 4 * rows)))
    return left + across // 2, below // 4


def limits_of(found: Points, plot: str, first: tuple[int, int], last: tuple[int, int]) -> tuple[Limits, Limits]:
    """Return the limits of x and y, low ≤ value < high, of the points that a box of cells of a plot shows.

    Args:
        found: The points.
        plot: What `draw_points` has drawn of them.
        first: Column and row of the upper left cell.
        last: Column and row of the lower right cell.
    """
    left, columns, rows = _size(plot)
    low, high = ((2 * (at - left) - 0.5 + more) / (2 * columns - 1) for at, more in ((first[0], 0), (last[0], 2)))
    top, bottom = ((4 * at - 0.5 + more) / (4 * rows - 1) for at, more in ((first[1], 0), (last[1], 4)))
    wide, tall = found.across[1] - found.across[0], found.up[1] - found.up[0]
    return (
        _inside((found.across[0] + low * wide, found.across[0] + high * wide), found.across),
        _inside((found.up[1] - bottom * tall, found.up[1] - top * tall), found.up),
    )


def _inside(limits: Limits, frame: Limits) -> Limits:
    """Cut limits to those of the frame, whose upper one is inside."""
    return max(limits[0], frame[0]), min(limits[1], float(np.nextafter(frame[1], np.inf)))


def _size(plot: str) -> tuple[int, int, int]:
    """Return the first column of a drawn plot's area, and its numbers of columns and rows."""
    lines = plot.split("\n")
    left, rows = area_of(lines)
    return left, max(len(lines[at]) for at in range(len(lines)) if "└" in lines[at]) - left, rows


@dataclass(frozen=True, slots=True)
class _Beyond:
    """Numbers of points outside the frame; those outside at a corner count for left or right."""

    left: int
    right: int
    above: int
    below: int


def _counted(found: Points, columns: int, rows: int) -> tuple[NDArray[np.int64], _Beyond]:
    """Return the number of points at each dot, shape (4 · rows, 2 · columns), and outside."""
    counts = np.zeros((4 * rows, 2 * columns), dtype=np.int64)
    (x_low, x_high), (y_low, y_high) = found.across, found.up
    left = right = above = below = 0
    for start in range(0, found.x.size, CHUNK_POINTS):
        x, y = (one[start : start + CHUNK_POINTS] for one in (found.x, found.y))
        is_left, is_right = x < x_low, x > x_high
        beside = is_left | is_right
        is_above, is_below = ~beside & (y > y_high), ~beside & (y < y_low)
        inside = ~(beside | is_above | is_below)
        shares = (y_high - y[inside]) / (y_high - y_low), (x[inside] - x_low) / (x_high - x_low)
        np.add.at(counts, (_dot(shares[0], 4 * rows), _dot(shares[1], 2 * columns)), 1)
        left, right = left + int(is_left.sum()), right + int(is_right.sum())
        above, below = above + int(is_above.sum()), below + int(is_below.sum())
    return counts, _Beyond(left, right, above, below)


def _cells(counts: NDArray[np.int64], columns: int, rows: int) -> list[str]:
    """Return lines of cells: a dot for every point, or, if they are many, a shade for the number in each cell."""
    cells = counts.reshape(rows, 4, columns, 2)
    if counts.sum() <= DENSE * columns * rows:
        codes = ((cells > 0) * BRAILLE[:, None, :]).sum(axis=(1, 3))
        return ["".join(chr(ord(BLANK) + code) for code in line) for line in codes.tolist()]
    totals = cells.sum(axis=(1, 3))
    share = np.log1p(totals) / np.log1p(totals.max())
    levels = np.where(totals > 0, 1 + np.rint(share * (len(SHADES) - 1)).astype(np.int64), 0)
    return ["".join((BLANK + SHADES)[level] for level in line) for line in levels.tolist()]


def _dot(shares: Values, dots: int) -> NDArray[np.int64]:
    """Return the index of each point among `dots` positions."""
    return np.rint(shares * (dots - 1)).astype(np.int64)


def _note_beyond(frame: list[str], left: int, rows: int, beyond: _Beyond) -> None:
    """Write the numbers of points outside the frame at its edges, in place."""
    columns = len(frame[0]) - left
    notes = (
        (beyond.left, rows // 2, f"← {beyond.left:,} beyond", 0.0),
        (beyond.right, rows // 2, f"{beyond.right:,} beyond →", 1.0),
        (beyond.above, 0, f"↑ {beyond.above:,} beyond", 0.5),
        (beyond.below, rows - 1, f"↓ {beyond.below:,} beyond", 0.5),
    )
    for count, row, text, share in notes:
        if count and len(text) <= columns:
            start = left + round(share * (columns - len(text)))
            frame[row] = frame[row][:start] + text + frame[row][start + len(text) :]
