"""The error screen: what happened, and what to do about it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from prefscope.report.visible import visible_lines
from prefscope.tui.copying import copy
from prefscope.tui.widgets.footer import Footer


class ErrorScreen(ModalScreen[None]):
    """Shows an error in full, with the last lines of the log of the process."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy", id="error-copy"),
        Binding("escape,q,enter", "dismiss", "Back", id="error-back"),
    ]
    DEFAULT_CSS = """
    ErrorScreen {
        align: center middle;
        VerticalScroll {
            width: 90%;
            max-width: 110;
            height: auto;
            max-height: 90%;
            border: round $error;
            border-title-color: $error;
            border-subtitle-color: $quiet;
            background: $surface;
            padding: 1 2;
        }
        .log { margin-top: 1; color: $quiet; }
    }
    """

    def __init__(self, title: str, message: str, *, advice: str = "", log: str = "") -> None:
        super().__init__()
        self._title = title
        self._message = message
        self._advice = advice
        self._log = log

    def compose(self) -> ComposeResult:
        """Create the box with the error, the advice and the log."""
        with VerticalScroll() as box:
            box.border_title = Content(f"✗ {self._title}")
            yield Static(Content(visible_lines(self._message)))
            if self._advice:
                yield Static(Content(f"\n{self._advice}"))
            if self._log:
                yield Static(Content(visible_lines(self._log)), classes="log")
        yield Footer()

    def action_copy(self) -> None:
        """Copy the error and the log."""
        copy(self.app, "\n\n".join(filter(None, (self._message, self._log))), "the error")
