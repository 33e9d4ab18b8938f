"""A plot of the running sums of a pair's rewards or log-probs over its tokens, with the cursor's position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.segment import Segment
from textual.strip import Strip

from prefscope.report.plots import running_sums
from prefscope.tui.widgets.plot import Plot

_AXIS = "┤│"


class RunningSums(Plot):
    """Plots the running sums of both responses."""

    DEFAULT_CSS = """
    RunningSums {
        height: 8;
    }
    """
    EMPTY = "no token has a value"

    def __init__(self, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__("", id=id)
        self._tokens = 0
        self._cursor: int | None = None

    def show_sums(self, chosen: NDArray[np.float64], rejected: NDArray[np.float64]) -> None:
        """Draw the running sums of the contributions of each token."""
        self._tokens, self._cursor = max(len(chosen), len(rejected)), None
        self.show_drawing(lambda width, height: running_sums(chosen, rejected, width, height))

    def show_cursor(self, token: int | None) -> None:
        """Mark the position of a token; None: no token."""
        self._cursor = token
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Render a line of the plot with the cursor."""
        strip = super().render_line(y)
        line = self.lines[y] if y < len(self.lines) else ""
        left = next((at for at, character in enumerate(line) if character in _AXIS), None)
        if left is None or self._cursor is None or not self._tokens:
            return strip
        width = self.content_size.width
        at = left + 1 + round((self._cursor + 1) / self._tokens * (width - left - 2))
        mark = Strip([Segment("┃", self.rich_style)], 1)
        return Strip.join([strip.crop(0, at), mark, strip.crop(at + 1, width)])
