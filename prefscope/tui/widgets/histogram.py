"""A histogram with bins that can be picked and opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.message import Message
from textual.strip import Strip

from prefscope.report.axes import histogram_edges
from prefscope.report.plots import margin_histogram
from prefscope.tui.widgets.plot import Plot

PICKED = str.maketrans("█▒", "▓░")
"""Bars of the picked bin look different in every theme, also without colours."""
HINT = "← → pick a bin"


class Histogram(Plot):
    """A histogram of margins; wrongly ranked pairs are drawn as ▒, correctly ranked pairs as █."""

    HELP = "All pairs at a glance. ← → pick a bin of the histogram, enter shows its pairs; p shows the other plots."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "pick(-1)", "Bin", key_display="←→", id="bin-left"),
        Binding("right,l", "pick(1)", "Next bin", show=False, id="bin-right"),
        Binding("enter", "open", "Pairs of the bin", id="bin-open"),
    ]

    COMPONENT_CLASSES: ClassVar[set[str]] = {"histogram--picked"}
    DEFAULT_CSS = """
    Histogram > .histogram--picked { background: $panel; text-style: bold; }
    """

    @dataclass
    class BinOpened(Message):
        """A request to list the pairs of a bin; None: the bin is unbounded on that side."""

        low: float | None
        high: float | None

    def __init__(self, title: str, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002 (Textual's name)
        super().__init__(title, id=id, classes=classes)
        self._values: NDArray[np.float64] = np.empty(0)
        self._picked: tuple[int, int] | None = None
        """The picked bin, and the number of bins that it is one of."""

    @property
    def picked(self) -> int | None:
        """The picked bin; None if there is none, or if the bins have changed since, as after a change of width."""
        at, bins = self._picked or (0, 0)
        return at if bins and bins == len(self.edges) - 1 else None

    def show_values(self, values: NDArray[np.float64]) -> None:
        """Draw the finite values; the picked bin is kept if they are unchanged."""
        known = np.isfinite(values)
        finite = values if known.all() else values[known]
        if np.array_equal(finite, self._values):
            return
        self._values = finite
        self._picked = None
        self.border_subtitle = HINT
        self.show_drawing(lambda width, height: margin_histogram(self._values, width, height))

    @property
    def edges(self) -> NDArray[np.float64]:
        """The edges of the drawn bins, empty if there are no values. Shape (bins + 1,)."""
        return histogram_edges(self._values, self.content_size.width) if self._values.size else np.empty(0)

    def action_pick(self, step: int) -> None:
        """Go to the next bin that has pairs."""
        edges = self.edges
        if not edges.size:
            return
        counts = self._counts(edges)
        filled = np.flatnonzero(counts)
        if self.picked is None:
            at = filled[-1] if step < 0 else filled[0]
        else:
            candidates = filled[filled > self.picked] if step > 0 else filled[filled < self.picked][::-1]
            at = candidates[0] if candidates.size else self.picked
        self._pick(int(at), int(counts[at]))

    def _counts(self, edges: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the number of values in each bin; the outermost bins include the tails. Shape (bins,)."""
        return np.histogram(np.clip(self._values, edges[0], edges[-1]), edges)[0]

    def _pick(self, at: int, count: int) -> None:
        self._picked = at, len(self.edges) - 1
        low, high = self._bounds(at)
        begin = "" if low is None else f"{low:+.3g} ≤ "
        end = "" if high is None else f" < {high:+.3g}"
        self.border_subtitle = f"{begin}margin{end}: {count:,} pairs · enter opens"
        self.refresh()

    def _bounds(self, at: int) -> tuple[float | None, float | None]:
        """Return the bounds of a bin, low ≤ margin < high; None where an outermost bin is unbounded."""
        edges = self.edges
        last = len(edges) - 2
        return (None if at == 0 else float(edges[at])), (None if at >= last else float(edges[at + 1]))

    def action_open(self) -> None:
        """List the pairs of the picked bin."""
        if self.picked is not None:
            self.post_message(self.BinOpened(*self._bounds(self.picked)))

    def on_resize(self) -> None:
        """Forget the picked bin if there are other bins at the new width."""
        if self._picked is not None and self.picked is None:
            self._picked = None
            self.border_subtitle = HINT

    def on_click(self, event: Click) -> None:
        """Pick the clicked bin; a double click opens it."""
        edges = self.edges
        offset = event.get_content_offset(self)
        if not edges.size or offset is None:
            return
        left, width = self._area
        at = int((offset.x - left + 0.5) / max(width, 1) * (len(edges) - 1))
        if 0 <= at < len(edges) - 1:
            self._pick(at, int(self._counts(edges)[at]))
            if event.chain > 1:
                self.action_open()

    @property
    def _area(self) -> tuple[int, int]:
        """The first column of the bars, and their total width."""
        first = self.lines[0] if self.lines else ""
        left = 1 + max(first.find("│"), first.find("┤"))
        return left, self.content_size.width - left

    def _columns(self, at: int) -> tuple[int, int]:
        """Return the first column of a bin's bar, and the column after its last."""
        left, width = self._area
        bins = max(len(self.edges) - 1, 1)
        return left + round(at * width / bins), left + round((at + 1) * width / bins)

    def render_line(self, y: int) -> Strip:
        """Render a line of the plot, with the picked bin on another background and its bars in another shade."""
        line = super().render_line(y)
        if self.picked is None:
            return line
        start, stop = self._columns(self.picked)
        picked = self.get_component_rich_style("histogram--picked", partial=True)
        bar = Strip(
            Segment(text.translate(PICKED), (style or Style()) + picked) for text, style, _ in line.crop(start, stop)
        )
        return Strip.join([line.crop(0, start), bar, line.crop(stop)])
