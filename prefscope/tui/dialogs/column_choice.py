"""The dialog for choosing the column to group pairs by."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.view import View
from prefscope.tui.dialogs.list_dialog import ListDialog, list_bindings
from prefscope.tui.model.cells import fit, one_line
from prefscope.tui.widgets.footer import Footer

OURS = ("flags", *NUM_TOKENS, "quadrant")
"""Columns of the ledger that are useful to group by."""


class ColumnChoice(ListDialog[str]):
    """Returns the chosen column, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = list_bindings("column-choice", "escape,b")
    DEFAULT_CSS = "ColumnChoice > OptionList { width: 56; }"

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
