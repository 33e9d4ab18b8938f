"""The list of completions above the filter: as many as fit, with the chosen one in view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from prefscope.tui.model.cells import fit, one_line
from prefscope.tui.model.completion import Candidate

ROWS = 6
WIDTH = 26


class CompletionList(Static):
    """Shows completions; hidden if there are none."""

    DEFAULT_CSS = """
    CompletionList {
        display: none;
        height: auto;
        background: $panel;
        padding: 0 1 0 2;
        text-wrap: nowrap;
        text-overflow: ellipsis;
        &.-open { display: block; }
    }
    """

    @dataclass
    class Clicked(Message):
        """A completion was clicked."""

        index: int

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._top = 0
        self._count = 0

    def show(self, found: Sequence[Candidate], chosen: int | None) -> None:
        """Show completions, with the chosen one in reverse; hide the list if there are none."""
        self.set_class(bool(found), "-open")
        self._count = len(found)
        at = chosen or 0
        self._top = min(max(self._top, at - ROWS + 1), at, max(len(found) - ROWS, 0))
        lines = []
        for index, one in enumerate(found[self._top : self._top + ROWS], start=self._top):
            line = f"{'▶' if index == chosen else ' '} {fit(one_line(one.text), WIDTH)} {one_line(one.detail)}"
            lines.append(Content.styled(line, "reverse" if index == chosen else ""))
        more = len(found) - ROWS
        if more > 0:
            lines.append(Content.styled(f"  {at + 1 if chosen is not None else 0} of {len(found)}", "dim"))
        self.update(Content("\n").join(lines))

    def on_click(self, event: Click) -> None:
        """Report the completion that was clicked."""
        index = event.y + self._top
        if event.y < ROWS and index < self._count:
            self.post_message(self.Clicked(index))
