"""A scatter plot of the margins of two runs; its quadrants are counted and can be picked and opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.message import Message
from textual.strip import Strip

from prefscope.report.comparison import QUADRANTS, Comparison, Quadrant
from prefscope.report.scatter_plots import cell_of, draw_points, quadrant_points
from prefscope.tui.widgets.plot import Plot

REVERSED = Style(reverse=True)
LAYOUT: tuple[tuple[Quadrant, Quadrant], ...] = (("only_b", "both"), ("neither", "only_a"))
"""Position of each quadrant: rows from the top, columns from the left."""
CLASSES: dict[Quadrant, str] = {
    "only_b": "plot--positive",
    "both": "plot--point",
    "neither": "plot--point",
    "only_a": "plot--negative",
}
HINT = "arrows pick a quadrant"


class Quadrants(Plot):
    """Shows the scatter plot between two lines with the counts of the quadrants."""

    HELP = (
        "All shared pairs: A ranks those on the right correctly, B those at the top. Arrows pick a quadrant, enter "
        "lists its pairs."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "pick(None, 0)", "Quadrant", key_display="←→↑↓", id="quadrant-left"),
        Binding("right,l", "pick(None, 1)", "Quadrant on the right", show=False, id="quadrant-right"),
        Binding("up,k", "pick(0, None)", "Quadrant above", show=False, id="quadrant-up"),
        Binding("down,j", "pick(1, None)", "Quadrant below", show=False, id="quadrant-down"),
        Binding("enter", "open", "Pairs of the quadrant", id="quadrant-open"),
    ]
    EMPTY = "no pairs to compare"

    @dataclass
    class Opened(Message):
        """A request to list the pairs of a quadrant."""

        quadrant: Quadrant

    def __init__(self, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__("", id=id)
        self._comparison: Comparison | None = None  # None if the runs share no pairs
        self._place: tuple[int, int] | None = None
        self._zero = 0, 0

    @property
    def picked(self) -> Quadrant | None:
        """The picked quadrant; None if no quadrant is picked."""
        return LAYOUT[self._place[0]][self._place[1]] if self._place else None

    def show_comparison(self, comparison: Comparison) -> None:
        """Draw a comparison; the picked quadrant stays picked."""
        self._comparison = comparison if comparison.pairs else None
        self.show_drawing(lambda width, height: self._draw(comparison, width, height))
        self._show_counts()

    def _draw(self, comparison: Comparison, width: int, height: int) -> str:
        if not comparison.pairs:
            return ""
        upper, lower = (self._labels(comparison, row, width) for row in LAYOUT)
        points = quadrant_points(*comparison.margins)
        plot = draw_points(points, width, height - len(LAYOUT))
        if not plot:
            return f"{upper}\n{lower}"
        column, row = cell_of(points, plot, 0.0, 0.0)
        self._zero = column, row + 1  # below the upper labels
        return f"{upper}\n{plot}\n{lower}"

    def _labels(self, comparison: Comparison, row: tuple[Quadrant, Quadrant], width: int) -> str:
        left, right = (label(comparison, quadrant) for quadrant in row)
        return left + right.rjust(width - len(left))

    def action_pick(self, row: int | None, column: int | None) -> None:
        """Pick the quadrant in another row or column."""
        place = self._place or (0, 0)
        self._pick(place[0] if row is None else row, place[1] if column is None else column)

    def _pick(self, row: int, column: int) -> None:
        self._place = row, column
        self._show_counts()

    def _show_counts(self) -> None:
        if self._comparison is None:
            self.border_subtitle = ""
        elif self.picked is None:
            self.border_subtitle = HINT
        else:
            count = self._comparison.quadrants[self.picked]
            share = count / self._comparison.pairs
            self.border_subtitle = f"{QUADRANTS[self.picked]}: {count:,} pairs, {share:.1%} · enter opens"
        self.refresh()

    def action_open(self) -> None:
        """List the pairs of the picked quadrant."""
        if self.picked is not None and self._comparison is not None:
            self.post_message(self.Opened(self.picked))

    def on_click(self, event: Click) -> None:
        """Pick the clicked quadrant; a double click opens it."""
        offset = event.get_content_offset(self)
        if offset is None or self._comparison is None:
            return
        self._pick(*self._place_of(offset.x, offset.y))
        if event.chain > 1:
            self.action_open()

    def _place_of(self, x: int, y: int) -> tuple[int, int]:
        """Return the row and column in `LAYOUT` of the quadrant that contains a cell."""
        zero_x, zero_y = self._zero
        is_label = y in (0, len(self.lines) - 1)
        return int(y > zero_y), int(x >= (self.content_size.width // 2 if is_label else zero_x))

    def classes_of(self, line: str, y: int) -> list[str]:
        """Return the component class of each character: points and counts have the colour of their quadrant."""
        classes = super().classes_of(line, y)
        is_label = y in (0, len(self.lines) - 1)
        places = (self._place_of(x, y) for x in range(len(line)))
        return [
            CLASSES[LAYOUT[row][column]] if is_label or name == "plot--point" else name
            for name, (row, column) in zip(classes, places, strict=True)
        ]

    def render_line(self, y: int) -> Strip:
        """Render a line of the plot, with the count of the picked quadrant in reverse video."""
        line = super().render_line(y)
        if self._place is None or self._comparison is None:
            return line
        row, column = self._place
        if y != row * (len(self.lines) - 1):
            return line
        size, width = len(label(self._comparison, LAYOUT[row][column])), self.content_size.width
        start, stop = (width - size, width) if column else (0, size)
        return Strip.join([line.crop(0, start), line.crop(start, stop).apply_style(REVERSED), line.crop(stop)])


def label(comparison: Comparison, quadrant: Quadrant) -> str:
    """Return the label of a quadrant: its number of pairs and its name."""
    return f" {comparison.quadrants[quadrant]:,} {QUADRANTS[quadrant]} "
