"""A scatter plot with a box of cells that keys or the mouse move; its pairs can be listed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, MouseDown, MouseMove, MouseUp
from textual.geometry import Offset
from textual.message import Message
from textual.strip import Strip

from prefscope.report.scatter_plots import Limits, Points, Values, area_of, draw_points, limits_of, points
from prefscope.tui.widgets.plot import Plot

REVERSED = Style(reverse=True)
HINT = "arrows pick a cell, shift makes a box"

Cell = tuple[int, int]
"""Column and row of a cell in the plot."""


class Scatter(Plot):
    """Shows points; enter lists the pairs in the picked box."""

    HELP = "Arrows pick a cell, shift and arrows or the mouse draw a box, enter lists its pairs, escape removes it."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "pick(-1, 0)", "Cell", key_display="←→↑↓", id="scatter-left"),
        Binding("right,l", "pick(1, 0)", "Cell on the right", show=False, id="scatter-right"),
        Binding("up,k", "pick(0, -1)", "Cell above", show=False, id="scatter-up"),
        Binding("down,j", "pick(0, 1)", "Cell below", show=False, id="scatter-down"),
        Binding("shift+left,H", "extend(-1, 0)", "Box", key_display="shift+←→↑↓", id="scatter-box-left"),
        Binding("shift+right", "extend(1, 0)", "Box to the right", show=False, id="scatter-box-right"),
        Binding("shift+up,K", "extend(0, -1)", "Box upwards", show=False, id="scatter-box-up"),
        Binding("shift+down,J", "extend(0, 1)", "Box downwards", show=False, id="scatter-box-down"),
        Binding("enter", "open", "Pairs of the box", id="scatter-open"),
        Binding("escape", "drop", "Remove the box", show=False, id="scatter-drop"),
    ]

    @dataclass
    class BoxOpened(Message):
        """A request to list the pairs in a box: low ≤ value < high for both axes."""

        scatter: Scatter
        x: Limits
        y: Limits

    def __init__(self, title: str, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002 (Textual's name)
        super().__init__(title, id=id, classes=classes)
        self._values: tuple[Values, Values] = (np.empty(0), np.empty(0))
        self._plot: Callable[[Values, Values], Points] = points
        self._points: Points | None = None
        self._anchor: Cell | None = None
        self._cell: Cell | None = None
        self._is_dragging = False

    def show_values(self, x: Values, y: Values, plot: Callable[[Values, Values], Points]) -> None:
        """Draw the finite points of two quantities; the box is removed if they have changed.

        Args:
            x: Value of each pair on the x axis.
            y: The same for the y axis.
            plot: Chooses the frame; called when the plot is painted.
        """
        if all(np.array_equal(*both, equal_nan=True) for both in zip(self._values, (x, y), strict=True)):
            return
        self._values, self._plot, self._points = (x, y), plot, None
        self._anchor = self._cell = None
        self.show_drawing(lambda width, height: draw_points(self.points, width, height))
        self._show_count()

    @property
    def points(self) -> Points:
        """The points, in their frame."""
        if self._points is None:
            self._points = self._plot(*self._values)
        return self._points

    @property
    def box(self) -> tuple[Cell, Cell] | None:
        """The upper left and the lower right cell of the box; None if there is none."""
        if self._cell is None:
            return None
        (x, y), (other_x, other_y) = self._cell, self._anchor or self._cell
        return (min(x, other_x), min(y, other_y)), (max(x, other_x), max(y, other_y))

    @property
    def limits(self) -> tuple[Limits, Limits] | None:
        """The limits of the values in the box."""
        if self.box is None:
            return None
        return limits_of(self.points, "\n".join(self.lines), *self.box)

    def action_pick(self, across: int, down: int) -> None:
        """Move to a neighbouring cell."""
        self._move(across, down)
        self._anchor = None
        self._show_count()

    def action_extend(self, across: int, down: int) -> None:
        """Move a corner of the box."""
        anchor = self._anchor or self._cell
        self._move(across, down)
        self._anchor = anchor or self._cell
        self._show_count()

    def _move(self, across: int, down: int) -> None:
        left, rows = area_of(self.lines)
        if not rows:
            return
        middle = (left + self.content_size.width) // 2, rows // 2
        x, y = middle if self._cell is None else (self._cell[0] + across, self._cell[1] + down)
        self._cell = self._inside(x, y)

    def _inside(self, x: int, y: int) -> Cell:
        left, rows = area_of(self.lines)
        return min(max(x, left), self.content_size.width - 1), min(max(y, 0), rows - 1)

    def action_drop(self) -> None:
        """Remove the box."""
        self._anchor = self._cell = None
        self._show_count()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave escape to others if there is no box."""
        if action == "drop":
            return self._cell is not None
        return super().check_action(action, parameters)

    def action_open(self) -> None:
        """List the pairs in the box."""
        if (limits := self.limits) is not None:
            self.post_message(self.BoxOpened(self, *limits))

    def _show_count(self) -> None:
        limits = self.limits
        if limits is None:
            self.border_subtitle = HINT if self._values[0].size else ""
        else:
            count = int(np.count_nonzero(_within(self.points.x, limits[0]) & _within(self.points.y, limits[1])))
            (low, high), (below, above) = limits
            bounds = f"{low:+.3g} ≤ → < {high:+.3g}, {below:+.3g} ≤ ↑ < {above:+.3g}"
            self.border_subtitle = f"{count:,} pair{'' if count == 1 else 's'}: {bounds} · enter"
        self.refresh_bindings()
        self.refresh()

    def on_mouse_down(self, event: MouseDown) -> None:
        """Begin a box."""
        if (cell := self._cell_at(event.get_content_offset(self))) is not None:
            self._anchor = self._cell = cell
            self._is_dragging = True
            self.capture_mouse()
            self._show_count()

    def on_mouse_move(self, event: MouseMove) -> None:
        """Extend the box."""
        if self._is_dragging and (cell := self._cell_at(event.get_content_offset(self))) is not None:
            self._cell = cell
            self._show_count()

    def on_mouse_up(self, _event: MouseUp) -> None:
        """End the box."""
        self._is_dragging = False
        self.release_mouse()

    def on_click(self, event: Click) -> None:
        """List the pairs of a cell that is clicked twice."""
        if event.chain > 1:
            self.action_open()

    def _cell_at(self, offset: Offset | None) -> Cell | None:
        if offset is None or not area_of(self.lines)[1]:
            return None
        return self._inside(offset.x, offset.y)

    def render_line(self, y: int) -> Strip:
        """Render a line of the plot, with the box in reverse video."""
        line = super().render_line(y)
        if self.box is None:
            return line
        (left, top), (right, bottom) = self.box
        if not top <= y <= bottom:
            return line
        inside = line.crop(left, right + 1).apply_style(REVERSED)
        return Strip.join([line.crop(0, left), inside, line.crop(right + 1)])


def _within(values: NDArray[np.float64], limits: Limits) -> NDArray[np.bool_]:
    return (values >= limits[0]) & (values < limits[1])


def box_expression(opened: Scatter.BoxOpened, x_column: str, y_column: str) -> str:
    """Return the filter expression for the pairs in a box, given the columns of both axes."""
    return f"{bin_expression(x_column, *opened.x)} and {bin_expression(y_column, *opened.y)}"


def bin_expression(column: str, low: float | None, high: float | None) -> str:
    """Return the filter expression for low ≤ column < high; None for no limit."""
    conditions = [] if low is None else [f"{column} >= {low!r}"]
    conditions += [] if high is None else [f"{column} < {high!r}"]
    return " and ".join(conditions) or f"{column} == {column}"
