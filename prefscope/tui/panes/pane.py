"""Base class of the panes: holds the session, and redraws only if something has changed."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import DataTable
from textual.widgets.data_table import RowKey

from prefscope.tui.copying import copy
from prefscope.tui.model.session import Session


def key_of(event: DataTable.RowHighlighted | DataTable.RowSelected) -> str:
    """Return the key of an event's row; empty if the table was filled anew before the event arrived."""
    key: RowKey | None = event.row_key
    return "" if key is None else key.value or ""


class Pane(Vertical):
    """One of the numbered panes of the main screen."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy", show=False, id="copy")]

    def __init__(self, session: Session, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.session = session
        self._drawn: tuple[int, ...] = ()

    def show_session(self) -> None:
        """Redraw the pane if the session has changed since it was last drawn."""
        if self._drawn != self.state:
            self._drawn = self.state
            self.draw()

    @property
    def state(self) -> tuple[int, ...]:
        """Redrawn if this changes."""
        return (self.session.generation,)

    @abstractmethod
    def draw(self) -> None:
        """Draw the current state of the session."""

    @property
    def copied(self) -> tuple[str, str] | None:
        """The text that `y` copies and its name; None if there is nothing to copy."""
        return None

    def action_copy(self) -> None:
        """Copy the contents of the pane."""
        if (found := self.copied) is not None:
            text, what = found
            copy(self.app, text, what)

    def focus_first(self) -> None:
        """Focus the first widget that can have the focus."""
        for widget in self.query(Widget):
            if widget.can_focus:
                widget.focus()
                return
