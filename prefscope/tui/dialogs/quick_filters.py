"""The dialog with common filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from prefscope.flags import FLAGS
from prefscope.ledger.column_values import flag_counts
from prefscope.ledger.scopes import SIGN
from prefscope.report.comparison import QUADRANTS, quadrant_filter
from prefscope.tui.dialogs.list_dialog import ListDialog, list_bindings
from prefscope.tui.model.cells import fit
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.footer import Footer
from prefscope.tui.widgets.pair_columns import short_name


@dataclass(frozen=True, slots=True)
class QuickFilter:
    """A named filter and the number of pairs that match it."""

    title: str
    expression: str
    count: int


def quick_filters(session: Session) -> list[QuickFilter]:
    """Return the common filters that apply to a session, with the number of matching pairs."""
    view = session.view
    chosen, rejected = (short_name(view.names, f"{side}_num_tokens") for side in ("chosen", "rejected"))
    filters = {"all pairs": ""}
    if session.ledger.has_reference:
        margin = short_name(view.names, "margins")
        filters |= {
            "ranked wrong": f"{margin} < 0",
            "tied": f"{margin} == 0",
            "length-driven": f"{margin} > 0 and {chosen} > 1.5 * {rejected}",
            "saturated": f"abs({margin}) > 5",
        }
        if session.runs.compares_margins:
            filters |= {QUADRANTS[one]: quadrant_filter(one, by_margin=True) for one in ("only_a", "only_b")}
    else:
        filters["chosen much longer"] = f"{chosen} > 1.5 * {rejected}"
    filters |= {f"{SIGN}{name}": f"{SIGN}{name}" for name in session.scopes if session.is_valid(f"{SIGN}{name}")}
    found = [QuickFilter(title, text, int(np.count_nonzero(view.filter(text)))) for title, text in filters.items()]
    flags = flag_counts(view)
    found += [QuickFilter(flag.replace("_", " "), f"flag({flag})", flags[flag]) for flag in FLAGS if flags[flag]]
    if len(session.marks):
        found.append(QuickFilter("marked", "mark(any)", int(np.count_nonzero(view.filter("mark(any)")))))
    return found


class QuickFilters(ListDialog[str]):
    """Returns the chosen filter expression, or None if cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = list_bindings("quick-filters", "escape,f")

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._filters = quick_filters(session)
        self._current = session.expression

    def compose(self) -> ComposeResult:
        """Create the list of filters, with the current one highlighted."""
        options = OptionList(*map(_option, self._filters), markup=False)
        options.border_title = "quick filters"
        options.border_subtitle = "enter applies it"
        expressions = [one.expression for one in self._filters]
        options.highlighted = expressions.index(self._current) if self._current in expressions else 0
        yield options
        yield Footer()

    @on(OptionList.OptionSelected)
    def _choose(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._filters[event.option_index].expression)


def _option(one: QuickFilter) -> Option:
    return Option(Content(f"{fit(one.title, 22)}{one.count:>9,}  {one.expression}"))
