"""The explanation of a pair as a list of statements; the one under the cursor marks its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Focus
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prefscope.preference.explanation import Span
from prefscope.report.explanation_words import Line
from prefscope.tui.model.cells import steady


class Why(OptionList):
    """Shows the lines of an explanation."""

    HELP = "What the margin is made of. A statement marks the sentences that it is about in the responses."
    DEFAULT_CSS = """
    Why, Why:focus {
        background: transparent;
        border-title-color: $foreground;
        border-subtitle-color: $quiet;
        padding: 0;
        scrollbar-size-vertical: 1;
        & > .option-list--option-highlighted { background: transparent; color: $foreground; text-style: none; }
    }
    Why:focus > .option-list--option-highlighted { text-style: reverse; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "cursor_down", "Next statement", show=False, id="why-next"),
        Binding("k", "cursor_up", "Previous statement", show=False, id="why-previous"),
    ]

    @dataclass
    class Pointed(Message):
        """The cursor is on a statement about these tokens."""

        spans: tuple[Span, ...]

    def __init__(self, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id, markup=False)
        self._statements: list[Line] = []

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Show statements from the first one; the cursor keeps its place if it has one."""
        if [*lines] == self._statements:
            return
        at, is_longer = self.highlighted, [*lines][: len(self._statements)] == self._statements
        self._statements = [*lines]
        self.set_options([Option(Content(steady(line.text))) for line in lines])
        self.highlighted = at if is_longer else None
        if not is_longer:
            self.scroll_to(y=0, animate=False, force=True)

    def on_focus(self, _: Focus) -> None:
        """Begin with the first statement."""
        if self.highlighted is None and self._statements:
            self.highlighted = 0
        elif self.highlighted is not None:
            self.post_message(self.Pointed(self._statements[self.highlighted].spans))

    @on(OptionList.OptionHighlighted)
    def _point(self, moved: OptionList.OptionHighlighted) -> None:
        moved.stop()
        if self.has_focus and moved.option_index < len(self._statements):
            self.post_message(self.Pointed(self._statements[moved.option_index].spans))
