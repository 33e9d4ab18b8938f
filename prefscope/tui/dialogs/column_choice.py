"""The dialog for choosing the column to group pairs by."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.view import View
from prefscope.tui.model.cells import fit, one_line
from prefscope.tui.widgets.footer import Footer

OURS = ("flags", *NUM_TOKENS, "quadrant")
"""Columns of the ledger that are useful to group by."""


class ColumnChoice(ModalScreen[str | None]):
    """Returns the chosen column, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,b", "dismiss(None)", "Back", id="column-choice-back"),
        Binding("j", "step('down')", "Down", show=False, id="column-choice-down"),
        Binding("k", "step('up')", "Up", show=False, id="column-choice-up"),
    ]
    DEFAULT_CSS = """
    ColumnChoice {
        align: center middle;
        & > OptionList { width: 56; max-width: 95%; height: auto; max-height: 90%; }
        & > OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
        & > OptionList, & > OptionList:focus { border: round $primary; }
    }
    """

    def __init__(self, view: View) -> None:
        super().__init__()
        own = [*view.ledger.extra_columns]
        self._columns = own + [name for name in OURS if name in view.names.kinds and name not in own]
        self._count = len(own)

    def compose(self) -> ComposeResult:
        """Create the list of columns, those of the data set first."""
        options = OptionList(*(Option(self._line(number)) for number in range(len(self._columns))), markup=False)
        options.border_title = "group pairs by"
        yield options
        yield Footer()

    def _line(self, number: int) -> Content:
        origin = "from the data set" if number < self._count else ""
        return Content(f"{fit(one_line(self._columns[number]), 30)} {origin}")

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._columns[event.option_index])

    def action_step(self, direction: str) -> None:
        """Move the highlight up or down."""
        options = self.query_one(OptionList)
        if direction == "down":
            options.action_cursor_down()
        else:
            options.action_cursor_up()
