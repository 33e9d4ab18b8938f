"""The dialog for the name of a scope."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input

from prefscope.errors import UsageError
from prefscope.ledger.scopes import refuse_name
from prefscope.report.visible import visible
from prefscope.tui.widgets.footer import Footer


class ScopeName(ModalScreen[str | None]):
    """Asks for a name, and returns it, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Back", id="scope-name-back")]
    DEFAULT_CSS = """
    ScopeName { align: center middle; }
    ScopeName Input, ScopeName Input:focus { width: 60; max-width: 95%; border: round $primary; }
    """

    def __init__(self, expression: str) -> None:
        super().__init__()
        self._expression = expression

    def compose(self) -> ComposeResult:
        """Create the input field."""
        field = Input(placeholder="hard_math")
        field.border_title = Content(f"name of the scope {visible(self._expression)}")
        field.border_subtitle = "one word; in filters and --where it is @name"
        yield field
        yield Footer()

    @on(Input.Submitted)
    def _accept(self, event: Input.Submitted) -> None:
        name = event.value.strip().removeprefix("@")
        try:
            refuse_name(name)
        except UsageError as error:
            self.notify(visible(str(error)), severity="warning", markup=False)
        else:
            self.dismiss(name)
