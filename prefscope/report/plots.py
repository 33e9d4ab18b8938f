"""Terminal plots. Data are reduced in NumPy first, so a million pairs draw as fast as a hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prefscope.report.axes import histogram_edges, nice_ticks, widened

if TYPE_CHECKING:
    import plotext

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
    figure = new_figure(width, height)
    for part, marker in ((middles < 0, "▒"), (middles >= 0, "█")):
        if counts[
            part
        ].sum():  # other bins are empty bars, because plotext derives the width of a bar from its neighbours
            heights = np.where(part, counts, 0).tolist()
            figure.draw(figure.bar(middles.tolist(), heights, marker=marker, width=1, lines=True))
    figure.ruler("x", "lower").lim(float(edges[0]), float(edges[-1]))
    draw_ticks(figure, "x", float(edges[0]), float(edges[-1]), signed=True)
    draw_ticks(figure, "y", 0.0, float(counts.max()))
    return drawn(figure)


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
    figure = new_figure(width, height)
    places = np.log10(x) if log else x
    up = widened(float(y[known].min()), float(y[known].max()))
    if now is not None:
        figure.draw(figure.signal([float(np.log10(now)) if log else now] * 2, [*up], marker="│").lines())
    figure.draw(figure.signal(places[known].tolist(), y[known].tolist(), marker="braille").lines())
    across = widened(float(places[0]), float(places[-1]))
    for axis, limits in (("x", across), ("y", up)):
        figure.ruler(axis, 0).lim(*limits)
        draw_ticks(figure, axis, *limits, signed=True)
    if log:
        powers = range(int(np.ceil(across[0] - 1e-9)), int(np.floor(across[1] + 1e-9)) + 1)
        figure.ruler("x", 0).ticks([float(power) for power in powers], [f"{10.0**power:g}" for power in powers])
    return drawn(figure)


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
    figure = new_figure(width, height)
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
        draw_ticks(figure, "x", 0, size)
    figure.ruler("y", 0).ticks([*up], [f"{value:+.2g}" for value in up])
    return drawn(figure)


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


def new_figure(width: int, height: int) -> plotext.figure:
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


def draw_ticks(figure: plotext.figure, axis: str, low: float, high: float, *, signed: bool = False) -> None:
    """Put round numbers on an axis; without `signed`, only whole ones."""
    ticks = nice_ticks(low, high)
    if not signed:  # counts
        ticks = [tick for tick in ticks if tick.is_integer()]
    labels = [f"{tick:+g}" if signed and tick else f"{tick:g}" for tick in ticks]
    figure.ruler(axis, 0).ticks(ticks, labels)


def drawn(figure: plotext.figure) -> str:
    """Return the text of a figure."""
    lines = str(figure.build().string(colorless=True)).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip("\n")
