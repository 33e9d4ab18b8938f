"""The pairs as a table that is sorted, filtered and marked, with the pair under the cursor beside it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from prefscope.report.visible import visible
from prefscope.tui.dialogs.columns import Choice, ColumnsDialog
from prefscope.tui.dialogs.quick_filters import QuickFilters
from prefscope.tui.messages import SessionChanged
from prefscope.tui.model.session import Session
from prefscope.tui.model.state import recall, remember
from prefscope.tui.panes.marking import MarkingPane
from prefscope.tui.widgets.filter_bar import FilterBar
from prefscope.tui.widgets.pair_columns import short_name
from prefscope.tui.widgets.pair_preview import PairPreview
from prefscope.tui.widgets.pair_table import PairTable


class PairsPane(MarkingPane):
    """Table, preview, what is in the table, and the filter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("/", "filter", "Filter", id="pairs-filter"),
        Binding("f", "quick", "Quick filters", id="pairs-quick-filters"),
        Binding("c", "columns", "Columns", id="pairs-columns"),
        Binding("escape", "clear", "Clear filter", show=False, id="pairs-clear-filter"),
        Binding("r", "arrange", "Order anew", show=False, id="pairs-arrange"),
    ]
    SCOPED_CSS = False  # the screen's class tells whether there is room for the preview
    DEFAULT_CSS = """
    PairsPane {
        & > Horizontal { height: 1fr; }
        & > .status { height: 1; padding: 0 1; color: $quiet; }
        & PairPreview { display: none; }
    }
    .-wide PairsPane PairPreview { display: block; }
    """

    def compose(self) -> ComposeResult:
        """Make the table, its preview, the status and the filter."""
        with Horizontal():
            yield PairTable(self.session)
            yield PairPreview(self.session)
        yield Static(classes="status", markup=False)
        yield FilterBar(self.session)

    @property
    def table(self) -> PairTable:
        """The table."""
        return self.query_one(PairTable)

    @property
    def filter_bar(self) -> FilterBar:
        """The line for the filter."""
        return self.query_one(FilterBar)

    @property
    def state(self) -> tuple[int, ...]:
        """What the drawing depends on: the cursor may have been moved elsewhere."""
        return (self.session.generation, self.session.position)

    def draw(self) -> None:
        """Draw all of it."""
        self.table.show_session()
        self.filter_bar.show_session()
        self._draw_status()
        self.query_one(PairPreview).show_session()

    def _draw_status(self) -> None:
        """Tell what is in the table, and which columns that were chosen are not."""
        count = self.table.left_out if self.session.columns is not None else 0
        told = f" · {count} column{'s do' if count > 1 else ' does'} not fit" if count else ""
        self.query_one(".status", Static).update(Content(status(self.session) + told), layout=False)

    @on(PairTable.Moved)
    def _preview(self) -> None:
        """Show the pair that the cursor is on now; the table has drawn itself."""
        self._drawn = self.state
        self.query_one(PairPreview).show_session()

    def on_resize(self) -> None:
        """Fill the preview when there is room for it now."""
        self.call_after_refresh(self.query_one(PairPreview).show_session)
        self.call_after_refresh(self._draw_status)

    @on(FilterBar.Done)
    def _focus_table(self) -> None:
        self.table.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether an action makes sense: without a pair in sight none is marked or copied."""
        if action == "filter":
            return not self.filter_bar.input.has_focus
        if action in {"mark", "note", "copy"}:
            return bool(self.session.order.size)
        return super().check_action(action, parameters)

    def action_filter(self) -> None:
        """Type a filter."""
        self.filter_bar.input.focus()

    def action_clear(self) -> None:
        """Show every pair."""
        self.filter_bar.clear()

    def action_arrange(self) -> None:
        """Bring filter and order up to date with what was scored since."""
        self.session.arrange()
        self.post_message(SessionChanged())

    def action_quick(self) -> None:
        """Choose one of the filters that people ask for again and again."""
        self.app.push_screen(QuickFilters(self.session), self._set_filter)

    def action_columns(self) -> None:
        """Choose the columns of the table."""
        self.app.push_screen(ColumnsDialog(self.session), self.set_columns)

    def set_columns(self, choice: Choice | None) -> None:
        """Show other columns, and remember them; None leaves them as they are."""
        if choice is not None:
            self.session.set_columns(choice.columns)
            remember(replace(recall(), columns=choice.columns))
            self.post_message(SessionChanged())

    def _set_filter(self, expression: str | None) -> None:
        if expression is not None:
            self.session.set_filter(expression)
            self.post_message(SessionChanged())


def status(session: Session) -> str:
    """Return how many pairs match and, with a reference, how they are ranked; then the order."""
    matching, total = session.order.size, session.ledger.num_pairs
    parts = [f"{matching:,}/{total:,}"]
    parts += [_share(matching / total)] if total else []
    if session.ledger.has_reference and matching:
        margins = session.view.column("margins")[session.order]
        margins = margins[np.isfinite(margins)]
        accuracy = _share(float(np.mean(margins > 0))) if margins.size else "·"
        mean = f"{margins.mean():+.2f}".replace("-", "−") if margins.size else "·"
        parts += [f"acc {accuracy}", f"mean {mean}"]
    column = short_name(session.view.names, session.sort.column)
    parts.append(f"{visible(column)} {'▼' if session.sort.descending else '▲'}")
    known = np.count_nonzero(session.ledger.is_known[session.order])
    parts += [f"{known:,} scored"] if known < matching else []
    parts += ["order of earlier numbers: r"] if session.is_stale else []
    return " · ".join(parts)


def _share(share: float) -> str:
    """Return a share in percent; one that is nearly none or nearly all is not told as none or all."""
    percent = math.floor(100 * share + 0.5)
    if percent == 0 and share > 0:
        return "<1%"
    return ">99%" if percent == 100 and share < 1 else f"{percent}%"  # noqa: PLR2004 (percent)
