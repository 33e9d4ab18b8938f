"""What every pane has: the session, and drawing only what has changed since."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widget import Widget

from prefscope.tui.copying import copy
from prefscope.tui.model.session import Session


class Pane(Vertical):
    """One of the numbered screens."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy", show=False, id="copy")]

    def __init__(self, session: Session, *, id: str) -> None:  # noqa: A002 (Textual's name)
        super().__init__(id=id)
        self.session = session
        self._drawn: tuple[int, ...] = ()

    def show_session(self) -> None:
        """Draw what has changed since the pane was last shown."""
        if self._drawn != self.state:
            self._drawn = self.state
            self.draw()

    @property
    def state(self) -> tuple[int, ...]:
        """What the drawing depends on."""
        return (self.session.generation,)

    @abstractmethod
    def draw(self) -> None:
        """Draw the session."""

    @property
    def copied(self) -> tuple[str, str] | None:
        """What `y` copies, and what that is; None for nothing."""
        return None

    def action_copy(self) -> None:
        """Copy what the pane tells."""
        if (found := self.copied) is not None:
            text, what = found
            copy(self.app, text, what)

    def focus_first(self) -> None:
        """Give the focus to the widget that keys are meant for."""
        for widget in self.query(Widget):
            if widget.can_focus:
                widget.focus()
                return
