"""The dialog for choosing the columns of the table of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prefscope.ledger.columns import MARKED, all_columns
from prefscope.ledger.names import SUFFIX
from prefscope.tui.dialogs.list_dialog import ListDialog, list_bindings
from prefscope.tui.model.cells import fit, one_line
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.footer import Footer
from prefscope.tui.widgets.pair_columns import PairColumn, offered, pair_columns, short_name


@dataclass(frozen=True, slots=True)
class Choice:
    """The columns to show; None: chosen automatically."""

    columns: tuple[str, ...] | None


def chosen_columns(session: Session) -> set[str]:
    """Return the names of the chosen columns, or of the automatic ones if none were chosen."""
    return set(session.columns) if session.columns is not None else {one.name for one in pair_columns(session)}


def with_chosen(session: Session, chosen: set[str]) -> Choice:
    """Return a choice of columns; previously chosen columns that this ledger does not have stay chosen."""
    names = [column.name for column in offered(session)]
    others = [name for name in session.columns or () if name not in names]
    return Choice((*(name for name in names if name in chosen), *others))


class ColumnsDialog(ListDialog[Choice]):
    """Returns the chosen columns, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", "Show these", priority=True, id="columns-keep"),
        Binding("space", "toggle_column", "Tick", id="columns-turn"),
        Binding("a", "automatic", "Automatic", id="columns-automatic"),
        *list_bindings("columns", "escape,c"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._offered = offered(session)
        self._chosen = chosen_columns(session)

    def compose(self) -> ComposeResult:
        """Create the list of columns."""
        options = OptionList(*(Option(self._line(column)) for column in self._offered), markup=False)
        options.border_title = "columns"
        yield options
        yield Footer()

    def _line(self, column: PairColumn) -> Content:
        names = self.session.view.names
        title = one_line(short_name(names, column.name))
        return Content(f"[{'x' if column.name in self._chosen else ' '}] {fit(title, 18)} {self._meaning(column.name)}")

    def _meaning(self, name: str) -> str:
        if name in self.session.ledger.extra_columns:
            return "from the data set"
        meanings = {column.name: column.meaning for column in (*all_columns(), *MARKED)}
        if name not in meanings and name.endswith(SUFFIX):
            return f"{self._meaning(name.removesuffix(SUFFIX))}, of run B"
        method, _, what = name.rpartition("_")
        return meanings.get(name) or f"{method} {'gradient weight' if what == 'weight' else what}"

    def action_toggle_column(self) -> None:
        """Tick or untick the column under the cursor."""
        options = self.query_one(OptionList)
        if options.highlighted is not None:
            column = self._offered[options.highlighted]
            self._chosen ^= {column.name}
            options.replace_option_prompt_at_index(options.highlighted, self._line(column))

    @on(OptionList.OptionSelected)
    def _click(self) -> None:
        self.action_toggle_column()

    def action_keep(self) -> None:
        """Show the ticked columns."""
        self.dismiss(with_chosen(self.session, self._chosen))

    def action_automatic(self) -> None:
        """Choose the columns automatically."""
        self.dismiss(Choice(None))
