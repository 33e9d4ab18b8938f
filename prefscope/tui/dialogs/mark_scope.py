"""The question before all pairs in the scope are marked."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar, get_args

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prefscope.ledger.marks import Decision
from prefscope.tui.dialogs.list_dialog import ListDialog, list_bindings
from prefscope.tui.model.cells import fit, one_line
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.footer import Footer

REMOVE = "remove"
CHOICES = (*get_args(Decision), REMOVE)
LONGEST_SCOPE = 50


class MarkScope(ListDialog[str]):
    """Returns the decision about all pairs in the scope, `remove` for none, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = list_bindings("mark-scope", "escape,q,M")
    DEFAULT_CSS = "MarkScope > OptionList { text-wrap: wrap; }"

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._scope = session.expression
        self._count = session.order.size
        decisions = session.view.column("mark")[session.order]
        self._decided = Counter(str(one) or REMOVE for one in decisions)

    def compose(self) -> ComposeResult:
        """Create the list of decisions, each with what will change."""
        options = OptionList(*(Option(Content(self._line(choice))) for choice in CHOICES), markup=False)
        scope = f" in {fit(one_line(self._scope), LONGEST_SCOPE).rstrip()}" if self._scope else ""
        options.border_title = Content(f"mark all {self._count:,} pairs{scope}?")
        options.border_subtitle = "enter marks them, u undoes it in one step"
        yield options
        yield Footer()

    def _line(self, choice: str) -> str:
        same = self._decided[choice]
        other = self._count - same - (self._decided[REMOVE] if choice != REMOVE else 0)
        what = f"{choice} all" if choice != REMOVE else "remove all decisions; notes stay"
        parts = [f"{same:,} {'have none' if choice == REMOVE else 'are already'}"] if same else []
        parts += [f"{other:,} {'are removed' if choice == REMOVE else 'change from another decision'}"] if other else []
        return f"{fit(what, 34)}{', '.join(parts)}"

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(CHOICES[event.option_index])
