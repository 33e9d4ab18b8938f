"""A session: a ledger with its knobs, filter, sort order and marks.

This module does not use widgets. Every change increments `generation`, so that panes can detect stale drawings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.filters import FilterError, parse_filter
from prefscope.ledger.marks import Key, Mark, Marks
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.report.cards import mean_of
from prefscope.settings import PreferenceSettings
from prefscope.tui.model.runs import Runs

SETTLED = frozenset({"row", "pair_id", "line", "prompt", "chosen", "rejected", "source_json", *NUM_TOKENS})
"""Columns that scoring does not change."""
SORTED_CHARACTERS = 32
"""Number of leading characters by which texts are sorted."""


@dataclass(frozen=True, slots=True)
class Sort:
    """The column by which pairs are sorted, and the direction."""

    column: str = "row"
    descending: bool = False


class Session:
    """The state of the screens for one ledger, and possibly other ledgers of the same pairs."""

    def __init__(self, ledger: Ledger, preferences: PreferenceSettings, others: Sequence[Ledger] = ()) -> None:
        self.runs = Runs([ledger, *others])
        self.initial = preferences
        self.view = self.runs.view(preferences)
        self._first: dict[str, float] = {}
        """Means of columns with the initial preferences."""
        self.expression = ""
        self.sort = Sort()
        self.columns: tuple[str, ...] | None = None
        """The columns chosen for the table of pairs; None: chosen automatically."""
        self.generation = 0
        self.position = 0
        """Position in the ledger of the pair under the cursor."""
        self.order: NDArray[np.int64] = np.arange(ledger.num_pairs)
        """Positions of the pairs that match the filter, in sort order. Shape (matching pairs,)."""
        self.is_stale = False
        """Whether filter and order were computed from older numbers than those shown."""

    @property
    def ledger(self) -> Ledger:
        """The shown ledger."""
        return self.runs.ledger

    @property
    def marks(self) -> Marks:
        """The marks of the shown ledger."""
        return self.runs.marks

    @property
    def preferences(self) -> PreferenceSettings:
        """The current beta and losses: the values of the knobs."""
        return self.view.preferences

    def first_mean(self, column: str) -> float:
        """Return the mean of a column with the initial preferences; the mean is cached, the column is not."""
        if column not in self._first:
            self._first[column] = mean_of(View(self.ledger, self.initial), column)
        return self._first[column]

    def set_preferences(self, preferences: PreferenceSettings) -> None:
        """Change the knobs, and update the filter and order."""
        self.view = self.runs.view(preferences)
        self.arrange()

    def set_filter(self, expression: str) -> None:
        """Show only the pairs that match an expression.

        Raises:
            FilterError: If the expression is invalid or names an unknown column; nothing changes then.
        """
        parse_filter(expression, self.view.names)
        self.expression = expression
        self.arrange()

    def set_sort(self, sort: Sort) -> None:
        """Sort the pairs by a column; missing values come last."""
        self.sort = sort
        self.arrange()

    def set_columns(self, columns: tuple[str, ...] | None) -> None:
        """Choose the columns of the table of pairs; None: automatically."""
        self.columns = columns
        self.generation += 1

    def replace_ledger(self, ledger: Ledger) -> None:
        """Show a ledger of the same pairs with more of them scored; the order is kept, so that rows do not jump."""
        self.runs.replace_ledger(ledger)
        self.view = self.runs.view(self.preferences)
        self._first.clear()
        self.is_stale = bool(self.expression) or self.sort.column not in SETTLED
        self.generation += 1

    def arrange(self) -> None:
        """Apply the filter and sort order; the cursor stays on its pair if it still matches."""
        previous = self.place
        self.order = np.flatnonzero(self.view.filter(self.expression))
        if self.sort != Sort():  # otherwise they are in row order already
            keys = self.view.column(self.sort.column)[self.order]
            self.order = self.order[_order(keys, descending=self.sort.descending)]
        if self.order.size and not (self.order == self.position).any():
            self.position = int(self.order[min(previous, self.order.size - 1)])
        self.is_stale = False
        self.generation += 1

    @property
    def place(self) -> int:
        """Place in the order of the pair under the cursor; 0 if it is not in the order."""
        found = np.flatnonzero(self.order == self.position)
        return int(found[0]) if found.size else 0

    def move_to(self, place: int) -> None:
        """Move the cursor to a place in the order, or to the nearest valid place."""
        if self.order.size:
            self.position = int(self.order[min(max(place, 0), self.order.size - 1)])

    def find_wrong(self, step: int) -> int | None:
        """Return the place of the next (1) or previous (−1) pair that is ranked wrong, or None if there is none."""
        if not self.ledger.has_reference:
            return None
        wrong = np.flatnonzero(self.view.column("margins")[self.order] < 0)
        candidates = wrong[wrong > self.place] if step > 0 else wrong[wrong < self.place][::-1]
        return int(candidates[0]) if candidates.size else None

    def key(self, position: int) -> Key:
        """Return the key of a pair in the marks: its pair_id and occurrence."""
        return str(self.ledger.stored["pair_id"][position]), int(self.ledger.occurrences[position])

    def mark_of(self, position: int) -> Mark:
        """Return the mark of the pair at a position in the ledger."""
        return self.marks.of(self.key(position)) if len(self.marks) else Mark()

    def set_mark(self, position: int, mark: Mark) -> None:
        """Change the mark of the pair at a position in the ledger.

        Raises:
            ResourceError: If the marks cannot be written.
        """
        self.marks.change(self.key(position), mark)
        self.generation += 1

    def undo_mark(self) -> bool:
        """Undo the last change of a mark; return whether there was one.

        Raises:
            ResourceError: If the marks cannot be written.
        """
        undone = self.marks.undo() is not None
        self.generation += undone
        return undone

    # Runs: a filter or sort order is cleared if it uses a column that the new view does not have.

    def compare(self, number: int) -> bool:
        """Compare the shown run with another; return whether the filter was kept."""
        return not self.runs.compare(number) or self._rebuild_view()

    def show_run(self, number: int) -> bool:
        """Show another run with the cursor on the same pair; return whether the filter was kept."""
        if number == self.runs.shown:
            return True
        place, found = self.place, self.runs.pairing(number).find(self.position)
        self.runs.show(number)
        self.position = found or 0
        kept = self._rebuild_view()
        if self.position != found:
            self.move_to(place)
        return kept

    def _rebuild_view(self) -> bool:
        self.view = self.runs.view(self.preferences)
        self._first.clear()
        if self.sort.column not in self.view.names.kinds:
            self.sort = Sort()
        try:
            parse_filter(self.expression, self.view.names)
        except FilterError:
            self.expression, kept = "", False
        else:
            kept = True
        self.arrange()
        return kept


def _order(keys: NDArray[Any], *, descending: bool) -> NDArray[np.int64]:
    """Return the indices that stably sort the keys, with nan last in both directions."""
    if keys.dtype == object:
        # A NumPy string array reserves the longest width for every element: whole prompts would take gigabytes.
        keys = np.array([str(key)[:SORTED_CHARACTERS] for key in keys])
    if keys.dtype.kind not in "if":
        ranks = np.unique(keys, return_inverse=True)[1]
        return np.argsort(-ranks if descending else ranks, kind="stable")
    return np.argsort(-keys if descending else keys, kind="stable")
