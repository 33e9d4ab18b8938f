"""A character plot in the colours of the theme, redrawn when its size or its data change."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

Drawing = Callable[[int, int], str]
"""Returns the text of a plot for a width and height in cells; empty if there is nothing to draw."""

_CLASSES = {"█": "plot--positive", "•": "plot--positive", "▒": "plot--negative", "×": "plot--negative"}
_BRAILLE = range(0x2801, 0x2900)


class Plot(Widget, can_focus=True):
    """Shows a drawing; each character is coloured by its glyph."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"plot--positive", "plot--negative", "plot--axis", "plot--point"}
    DEFAULT_CSS = """
    Plot {
        border: round $panel;
        border-title-color: $foreground;
        border-subtitle-color: $quiet;
        height: 1fr;
        width: 1fr;
        & > .plot--positive { color: $positive; }
        & > .plot--negative { color: $negative; }
        & > .plot--axis { color: $quiet; }
        & > .plot--point { color: $primary; }
        &:focus { border: round $primary; }
    }
    """
    EMPTY = "no data yet"

    def __init__(self, title: str, *, id: str | None = None, classes: str = "") -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id, classes=classes)
        self.border_title = title
        self._drawing: Drawing = lambda *_: ""
        self._lines: tuple[tuple[int, int], list[str]] = ((0, 0), [])
        self._base = Style()

    def show_drawing(self, drawing: Drawing) -> None:
        """Replace the drawing."""
        self._drawing = drawing
        self._lines = ((0, 0), [])
        self.refresh()

    @property
    def lines(self) -> list[str]:
        """The lines of the plot at the current size."""
        width, height = self.content_size
        if self._lines[0] != (width, height):
            text = self._drawing(width, height) or self.EMPTY.center(width).rstrip()
            self._lines = ((width, height), text.split("\n"))
        return self._lines[1]

    def render_lines(self, crop: Region) -> list[Strip]:
        """Render the lines in view; the base style is computed once, since it depends on all ancestors."""
        self._base = self.rich_style
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """Render a line of the plot, with one segment per run of characters of the same colour."""
        width, _ = self.content_size
        base = self._base
        line = self.lines[y] if y < len(self.lines) else ""
        classes = self.classes_of(line, y)
        segments: list[Segment] = []
        start = 0
        for at in range(1, len(line) + 1):
            if at == len(line) or classes[at] != classes[start]:
                style = self.get_component_rich_style(classes[start], partial=True)
                segments.append(Segment(line[start:at], base + style))
                start = at
        return Strip(segments).adjust_cell_length(width, base)

    def classes_of(self, line: str, y: int) -> list[str]:
        """Return the component class of each character of line `y`."""
        del y  # the character alone determines the class
        return [_class_of(character) for character in line]


def _class_of(character: str) -> str:
    if ord(character) in _BRAILLE:
        return "plot--point"
    return _CLASSES.get(character, "plot--axis")
