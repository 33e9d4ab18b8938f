"""A dialog for one line of text, such as a name or a number."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input

from prefscope.errors import UsageError
from prefscope.report.visible import visible
from prefscope.tui.widgets.footer import Footer

Value = TypeVar("Value")


class LineDialog(ModalScreen[Value | None], Generic[Value]):
    """Asks for a line, and returns what it means, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back", id="line-back")]
    DEFAULT_CSS = """
    LineDialog { align: center middle; }
    LineDialog Input, LineDialog Input:focus { width: 60; max-width: 95%; border: round $primary; }
    """

    def __init__(self, title: str, hint: str, read: Callable[[str], Value], *, value: str = "") -> None:
        """Set up the dialog.

        Args:
            title: Title of the input field.
            hint: Which values are valid.
            read: Converts the line to the result; a `UsageError` is shown to the user.
            value: The initial text.
        """
        super().__init__()
        self._title, self._hint, self._read, self._value = title, hint, read, value

    def compose(self) -> ComposeResult:
        """Create the input field."""
        field = Input(self._value)
        field.border_title = Content(visible(self._title))
        field.border_subtitle = Content(visible(self._hint))
        yield field
        yield Footer()

    @on(Input.Submitted)
    def _accept(self, event: Input.Submitted) -> None:
        try:
            self.dismiss(self._read(event.value))
        except UsageError as error:
            self.notify(visible(str(error)), severity="warning", markup=False)
