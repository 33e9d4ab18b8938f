"""Terminal plots. Data are reduced in NumPy first, so a million pairs draw as fast as a hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prefscope.report.axes import around_zero, histogram_edges, nice_ticks, range_without_tails, widened

if TYPE_CHECKING:
    import plotext

BLANK = "\u2800"
BRAILLE = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
"""What each dot of a cell (four rows of two) adds to the code of an empty cell."""
CHUNK_POINTS = 65_536
LOW_PLOT = 7  # lines; a lower plot needs all of them for data


def margin_histogram(margins: NDArray[np.float64], width: int, height: int) -> str:
    """Return a histogram of margins with wrong pairs as ▒ and right ones as █; empty without finite margins.

    No bin straddles 0; ties are drawn with the right pairs.
    """
    finite = margins[np.isfinite(margins)]
    if finite.size == 0:
        return ""
    edges = histogram_edges(finite, width)
    counts, _ = np.histogram(np.clip(finite, edges[0], edges[-1]), edges)
    middles = (edges[:-1] + edges[1:]) / 2
    figure = _figure(width, height)
    for part, marker in ((middles < 0, "▒"), (middles >= 0, "█")):
        if counts[
            part
        ].sum():  # other bins are empty bars, because plotext derives the width of a bar from its neighbours
            heights = np.where(part, counts, 0).tolist()
            figure.draw(figure.bar(middles.tolist(), heights, marker=marker, width=1, lines=True))
    figure.ruler("x", "lower").lim(float(edges[0]), float(edges[-1]))
    _ticks(figure, "x", float(edges[0]), float(edges[-1]), signed=True)
    _ticks(figure, "y", 0.0, float(counts.max()))
    return _drawn(figure)


def reward_scatter(chosen: NDArray[np.float64], rejected: NDArray[np.float64], width: int, height: int) -> str:
    """Return rejected against chosen values as braille dots with the diagonal; right pairs lie below it.

    If there are many pairs, the outermost ones are drawn on the border.
    """
    finite = np.isfinite(chosen) & np.isfinite(rejected)
    if not finite.any():
        return ""
    x, y = (one if finite.all() else one[finite] for one in (chosen, rejected))
    ranges = (range_without_tails(x), range_without_tails(y))
    both = widened(min(low for low, _ in ranges), max(high for _, high in ranges))
    return _dots(x, y, both, both, [([*both], [*both])], width, height)


def scatter(x: NDArray[np.float64], y: NDArray[np.float64], width: int, height: int) -> str:
    """Return y against x as braille dots with the line y = 0; empty without finite pairs of values.

    If there are many pairs, the outermost ones are drawn on the border.
    """
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return ""
    x, y = (one if finite.all() else one[finite] for one in (x, y))
    across, up = widened(*range_without_tails(x)), around_zero(y)
    return _dots(x, y, across, up, [([*across], [0.0, 0.0])], width, height)


def quadrant_scatter(x: NDArray[np.float64], y: NDArray[np.float64], width: int, height: int) -> str:
    """Return y against x as braille dots over the lines x = 0 and y = 0; empty without pairs or room.

    If there are many pairs, the outermost ones are drawn on the border.

    Args:
        x: Finite values.
        y: Finite values, as many as in x.
        width: In cells.
        height: In cells.
    """
    if x.size == 0:
        return ""
    across, up = around_zero(x), around_zero(y)
    return _dots(x, y, across, up, [([*across], [0.0, 0.0]), ([0.0, 0.0], [*up])], width, height)


def zero_cell(plot: str, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[int, int]:
    """Return the column and row of the origin in the plot that `quadrant_scatter` drew of x and y."""
    lines = plot.split("\n")
    left, rows = _area(lines)
    columns = max(map(len, lines)) - left
    (x_low, x_high), (y_low, y_high) = around_zero(x), around_zero(y)
    across, down = np.array([-x_low / (x_high - x_low)]), np.array([y_high / (y_high - y_low)])
    return left + int(_dot(across, 2 * columns)[0]) // 2, int(_dot(down, 4 * rows)[0]) // 4


def _dots(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    across: tuple[float, float],
    up: tuple[float, float],
    lines: list[tuple[list[float], list[float]]],
    width: int,
    height: int,
) -> str:
    """Return points as braille dots over dotted lines, clipped to the border; empty without room."""
    figure = _figure(width, height)
    for line in lines:
        figure.draw(figure.signal(*line, marker="·").lines())
    for axis, limits in (("x", across), ("y", up)):
        figure.ruler(axis, 0).lim(*limits)
        _ticks(figure, axis, *limits, signed=True)
    frame = [line.ljust(width) for line in _drawn(figure).split("\n")]
    left, rows = _area(frame)
    if left >= width or not rows:
        return ""
    drawn = np.zeros((4 * rows, 2 * (width - left)), dtype=np.int64)
    for start in range(0, x.size, CHUNK_POINTS):
        some_x, some_y = (np.clip(one[start : start + CHUNK_POINTS], *limits) for one, limits in ((x, across), (y, up)))
        right, down = (some_x - across[0]) / (across[1] - across[0]), (up[1] - some_y) / (up[1] - up[0])
        drawn[_dot(down, 4 * rows), _dot(right, 2 * (width - left))] = 1
    for at, dots in enumerate(_braille(drawn)):
        cells = zip(dots, frame[at][left:], strict=True)
        frame[at] = frame[at][:left] + "".join(under if dot == BLANK else dot for dot, under in cells)
    return "\n".join(line.rstrip() for line in frame)


def _area(lines: list[str]) -> tuple[int, int]:
    """Return the first column right of the y axis, and the number of lines above the x axis."""
    rows = next((at for at, line in enumerate(lines) if "└" in line), 0)
    return 1 + max(lines[0].find("│"), lines[0].find("┤")), rows


def _braille(dots: NDArray[np.int64]) -> list[str]:
    """Return dots as lines of braille; plotext would need a Python call per point.

    Args:
        dots: 1 for a dot. Shape (4 · lines, 2 · cells of a line).
    """
    cells = dots.reshape(dots.shape[0] // 4, 4, dots.shape[1] // 2, 2)
    codes = (cells * BRAILLE[:, None, :]).sum(axis=(1, 3))
    return ["".join(chr(ord(BLANK) + code) for code in line) for line in codes.tolist()]


def _dot(shares: NDArray[np.float64], dots: int) -> NDArray[np.int64]:
    """Return the index of each point among `dots` positions."""
    return np.rint(shares * (dots - 1)).astype(np.int64)


def curve(
    x: NDArray[np.float64], y: NDArray[np.float64], now: float | None, width: int, height: int, *, log: bool = False
) -> str:
    """Return a line of braille dots, with │ at the current value of x; empty without finite values.

    Args:
        x: Ascending values; positive for a logarithmic axis.
        y: Values, as many as in x.
        now: The current value of x, if any.
        width: In cells.
        height: In cells.
        log: Whether the x axis is logarithmic.
    """
    known = np.isfinite(y)
    if not known.any():
        return ""
    figure = _figure(width, height)
    places = np.log10(x) if log else x
    up = widened(float(y[known].min()), float(y[known].max()))
    if now is not None:
        figure.draw(figure.signal([float(np.log10(now)) if log else now] * 2, [*up], marker="│").lines())
    figure.draw(figure.signal(places[known].tolist(), y[known].tolist(), marker="braille").lines())
    across = widened(float(places[0]), float(places[-1]))
    for axis, limits in (("x", across), ("y", up)):
        figure.ruler(axis, 0).lim(*limits)
        _ticks(figure, axis, *limits, signed=True)
    if log:
        powers = range(int(np.ceil(across[0] - 1e-9)), int(np.floor(across[1] + 1e-9)) + 1)
        figure.ruler("x", 0).ticks([float(power) for power in powers], [f"{10.0**power:g}" for power in powers])
    return _drawn(figure)


def running_sums(chosen: NDArray[np.float64], rejected: NDArray[np.float64], width: int, height: int) -> str:
    """Return the running sums over the tokens of two responses: chosen as a braille line, rejected as ····.

    Non-finite values count as 0; the plot is empty without tokens.

    Args:
        chosen: Value of each chosen token.
        rejected: Value of each rejected token.
        width: In cells.
        height: In cells; a low plot has no axis of token numbers.
    """
    sums = [np.cumsum(np.append(0.0, np.where(np.isfinite(one), one, 0.0))) for one in (chosen, rejected)]
    size = max(map(len, sums)) - 1
    if size == 0:
        return ""
    figure = _figure(width, height)
    up = widened(float(min(map(np.min, sums))), float(max(map(np.max, sums))))
    for line, marker in ((sums[1], "·"), (sums[0], "braille")):
        if len(line) > 1:
            at = _outline(line, width * len(line) // (size + 1))
            figure.draw(figure.signal(at.tolist(), line[at].tolist(), marker=marker).lines())
    figure.ruler("x", 0).lim(0, size)
    figure.ruler("y", 0).lim(*up)
    if height < LOW_PLOT:
        figure.axes(False, axis="x", side="lower")  # noqa: FBT003 (plotext's own argument)
        figure.ruler("x", 0).ticks([], [])
    else:
        _ticks(figure, "x", 0, size)
    figure.ruler("y", 0).ticks([*up], [f"{value:+.2g}" for value in up])
    return _drawn(figure)


def _outline(values: NDArray[np.float64], width: int) -> NDArray[np.int64]:
    """Return the indices of at most 2 · width values: the minimum and maximum of every column, and the last."""
    width = max(width - 1, 1)
    if len(values) <= 2 * width:
        return np.arange(len(values))
    starts = np.unique(np.linspace(0, len(values), width, endpoint=False).astype(np.int64))
    parts = np.split(values, starts[1:])
    least = starts + [int(part.argmin()) for part in parts]
    greatest = starts + [int(part.argmax()) for part in parts]
    return np.unique(np.concatenate([least, greatest, [len(values) - 1]]))


def side_by_side(left: str, right: str, gap: int = 3) -> str:
    """Return two plots joined line by line."""
    a, b = left.split("\n"), right.split("\n")
    width = max(map(len, a), default=0) + gap
    height = max(len(a), len(b))
    a += [""] * (height - len(a))
    b += [""] * (height - len(b))
    return "\n".join((one.ljust(width) + other).rstrip() for one, other in zip(a, b, strict=True))


def _figure(width: int, height: int) -> plotext.figure:
    """Return plotext's global figure, cleared, of a size in cells, without colours."""
    import plotext  # deferred, because the screens paint before they draw a plot

    plotext.terminal.limit(False, False)  # noqa: FBT003 (otherwise plotext clips to the terminal)
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
