"""The Pairs pane: a table of pairs to sort, filter and mark, with a preview of the pair under the cursor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from prefscope.ledger.marks import Decision
from prefscope.report.visible import visible
from prefscope.statistics import wilson_interval
from prefscope.tui.dialogs.columns import Choice, ColumnsDialog
from prefscope.tui.dialogs.mark_scope import REMOVE, MarkScope
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
    """The table, the preview, a status line, and the filter bar."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("/", "filter", "Filter", id="pairs-filter"),
        Binding("f", "quick", "Quick filters", id="pairs-quick-filters"),
        Binding("c", "columns", "Columns", id="pairs-columns"),
        Binding("M", "mark_scope", "Mark all in scope", show=False, id="pairs-mark-scope"),
        Binding("escape", "clear", "Clear filter", show=False, id="pairs-clear-filter"),
        Binding("r", "arrange", "Sort again", show=False, id="pairs-arrange"),
    ]
    SCOPED_CSS = False  # uses the screen's size class: narrow screens have no preview
    DEFAULT_CSS = """
    PairsPane {
        & > Horizontal { height: 1fr; }
        & > .status { height: 1; padding: 0 1; color: $quiet; }
        & PairPreview { display: none; }
    }
    .-wide PairsPane PairPreview { display: block; }
    """

    def compose(self) -> ComposeResult:
        """Create the table, the preview, the status line and the filter bar."""
        with Horizontal():
            yield PairTable(self.session)
            yield PairPreview(self.session)
        yield Static(classes="status", markup=False)
        yield FilterBar(self.session)

    @property
    def table(self) -> PairTable:
        """The table of pairs."""
        return self.query_one(PairTable)

    @property
    def filter_bar(self) -> FilterBar:
        """The filter bar below the table."""
        return self.query_one(FilterBar)

    @property
    def state(self) -> tuple[int, ...]:
        """Redrawn if this changes: the cursor may have moved on another pane."""
        return (self.session.generation, self.session.position)

    def draw(self) -> None:
        """Draw the table, filter bar, status line and preview."""
        self.table.show_session()
        self.filter_bar.show_session()
        self._draw_status()
        self.query_one(PairPreview).show_session()

    def _draw_status(self) -> None:
        """Show the status of the table or the range, and how many of the chosen columns do not fit."""
        if chosen := self.table.range:
            pairs = f"{len(chosen):,} pair{'s' if len(chosen) > 1 else ''}"
            text = f"range of {pairs} · K keep · D drop · S swap · esc ends it"
            self.query_one(".status", Static).update(Content(text), layout=False)
            return
        count = self.table.left_out if self.session.columns is not None else 0
        note = f" · {count} column{'s do' if count > 1 else ' does'} not fit" if count else ""
        self.query_one(".status", Static).update(Content(status(self.session) + note), layout=False)

    @on(PairTable.Moved)
    def _preview(self) -> None:
        """Update the preview after a cursor move; the table has redrawn itself already."""
        self._drawn = self.state
        self._draw_status()
        self.query_one(PairPreview).show_session()

    def on_resize(self) -> None:
        """Draw the preview and the status line for the new size."""
        self.call_after_refresh(self.query_one(PairPreview).show_session)
        self.call_after_refresh(self._draw_status)

    @on(FilterBar.Done)
    def _focus_table(self) -> None:
        self.table.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable marking and copying if no pair matches, and `filter` while the filter has the focus."""
        if action == "filter":
            return not self.filter_bar.input.has_focus
        if action in {"mark", "decide", "mark_scope", "note", "copy"}:
            return bool(self.session.order.size)
        return super().check_action(action, parameters)

    def action_filter(self) -> None:
        """Edit the filter."""
        self.filter_bar.input.focus()

    def action_clear(self) -> None:
        """End the range; without one, go back to the wider scope, or show every pair."""
        if self.table.end_range():
            self._draw_status()
        elif self.filter_bar.has_class("-wrong"):
            self.filter_bar.clear()
        elif self.session.widen():
            self.post_message(SessionChanged())

    @property
    def marked_positions(self) -> Sequence[int]:
        """Positions in the ledger of the pairs that keys mark: the range, or the pair under the cursor."""
        return self.table.range or super().marked_positions

    def decide(self, positions: Sequence[int], decision: Decision | None) -> None:
        """Set the decision on some pairs, and end the range."""
        self.table.end_range()
        super().decide(positions, decision)

    def action_mark_scope(self) -> None:
        """Mark all pairs in the scope, after a question."""

        def mark(choice: str | None) -> None:
            if choice is not None:
                self.decide(self.session.order.tolist(), None if choice == REMOVE else cast("Decision", choice))

        self.app.push_screen(MarkScope(self.session), mark)

    def action_arrange(self) -> None:
        """Filter and sort again, with the newly scored pairs."""
        self.session.arrange()
        self.post_message(SessionChanged())

    def action_quick(self) -> None:
        """Choose one of the common filters."""
        self.app.push_screen(QuickFilters(self.session), self._set_filter)

    def action_columns(self) -> None:
        """Choose the columns of the table."""
        self.app.push_screen(ColumnsDialog(self.session), self.set_columns)

    def set_columns(self, choice: Choice | None) -> None:
        """Change the columns of the table and remember them; None: change nothing."""
        if choice is not None:
            self.session.set_columns(choice.columns)
            remember(replace(recall(), columns=choice.columns))
            self.post_message(SessionChanged())

    def _set_filter(self, expression: str | None) -> None:
        if expression is not None:
            self.session.set_filter(expression)
            self.post_message(SessionChanged())


def status(session: Session) -> str:
    """Return the status line: number of matching pairs, accuracy and mean margin (with a reference), and sort order."""
    matching, total = session.order.size, session.ledger.num_pairs
    parts = [f"{matching:,}/{total:,}"]
    parts += [_share(matching / total)] if total else []
    if session.ledger.has_reference and matching:
        margins = session.view.column("margins")[session.order]
        margins = margins[np.isfinite(margins)]
        mean = f"{margins.mean():+.2f}".replace("-", "−") if margins.size else "·"
        parts += [f"acc {_accuracy(margins)}", f"mean {mean}"]
        if session.rest is not None:
            others = session.rest.column("margins")
            parts.append(f"rest acc {_accuracy(others[np.isfinite(others)])}")
    column = short_name(session.view.names, session.sort.column)
    parts.append(f"{visible(column)} {'▼' if session.sort.descending else '▲'}")
    known = np.count_nonzero(session.ledger.is_known[session.order])
    parts += [f"{known:,} scored"] if known < matching else []
    parts += ["order is outdated: r"] if session.is_stale else []
    return " · ".join(parts)


def _accuracy(margins: NDArray[np.float64]) -> str:
    """Return the share of margins above 0 with Wilson's 95% interval, in percent."""
    if not margins.size:
        return "·"
    low, high = wilson_interval(int(np.count_nonzero(margins > 0)), margins.size)
    return f"{_share(float(np.mean(margins > 0)))} ({100 * low:.0f}–{100 * high:.0f})"


def _share(share: float) -> str:
    """Format a share in percent; a share above 0 is never rounded to 0%, and a share below 1 never to 100%."""
    percent = math.floor(100 * share + 0.5)
    if percent == 0 and share > 0:
        return "<1%"
    return ">99%" if percent == 100 and share < 1 else f"{percent}%"  # noqa: PLR2004 (percent)
