"""What is being looked at: a ledger with its knobs, filter, order and marks.

Nothing here knows of widgets. Every change raises `generation`, by which panes tell that what they drew is stale.
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
"""So much of a text tells its place in the order."""


@dataclass(frozen=True, slots=True)
class Sort:
    """By which column the pairs are ordered."""

    column: str = "row"
    descending: bool = False


class Session:
    """One ledger on the screen, and maybe others of the same pairs beside it."""

    def __init__(self, ledger: Ledger, preferences: PreferenceSettings, beside: Sequence[Ledger] = ()) -> None:
        self.runs = Runs([ledger, *beside])
        self.initial = preferences
        self.view = self.runs.view(preferences)
        self._first: dict[str, float] = {}
        """Means of columns with the knobs as they stood at first."""
        self.expression = ""
        self.sort = Sort()
        self.columns: tuple[str, ...] | None = None
        """Of the table, as they were chosen; None for those that fit best."""
        self.generation = 0
        self.position = 0
        """Of the pair under the cursor, in the ledger."""
        self.order: NDArray[np.int64] = np.arange(ledger.num_pairs)
        """Positions of the pairs that match the filter, in their order."""
        self.is_stale = False
        """Whether filter and order are of earlier numbers than what is shown."""

    @property
    def ledger(self) -> Ledger:
        """The ledger that is shown."""
        return self.runs.ledger

    @property
    def marks(self) -> Marks:
        """Its marks."""
        return self.runs.marks

    @property
    def preferences(self) -> PreferenceSettings:
        """The knobs."""
        return self.view.preferences

    def first_mean(self, column: str) -> float:
        """Return the mean of a column with the knobs as they stood at first; only that number is kept."""
        if column not in self._first:
            self._first[column] = mean_of(View(self.ledger, self.initial), column)
        return self._first[column]

    def set_preferences(self, preferences: PreferenceSettings) -> None:
        """Move the knobs; filter and order follow."""
        self.view = self.runs.view(preferences)
        self.arrange()

    def set_filter(self, expression: str) -> None:
        """Show only the pairs that match an expression.

        Raises:
            FilterError: It is no expression, or names no column; nothing changes then.
        """
        parse_filter(expression, self.view.names)
        self.expression = expression
        self.arrange()

    def set_sort(self, sort: Sort) -> None:
        """Order the pairs by a column; values that are not there come last."""
        self.sort = sort
        self.arrange()

    def set_columns(self, columns: tuple[str, ...] | None) -> None:
        """Choose the columns of the table."""
        self.columns = columns
        self.generation += 1

    def renew(self, ledger: Ledger) -> None:
        """Show a ledger of the same pairs with more of them scored; the order stays, so that nothing jumps."""
        self.runs.renew(ledger)
        self.view = self.runs.view(self.preferences)
        self._first.clear()
        self.is_stale = bool(self.expression) or self.sort.column not in SETTLED
        self.generation += 1

    def arrange(self) -> None:
        """Find the pairs that match and put them in order; the cursor stays on its pair where that still matches."""
        former = self.place
        self.order = np.flatnonzero(self.view.filter(self.expression))
        if self.sort != Sort():  # as they come, else
            keys = self.view.column(self.sort.column)[self.order]
            self.order = self.order[_order(keys, descending=self.sort.descending)]
        if self.order.size and not (self.order == self.position).any():
            self.position = int(self.order[min(former, self.order.size - 1)])
        self.is_stale = False
        self.generation += 1

    @property
    def place(self) -> int:
        """Where the pair under the cursor is in the order; 0 where it is not."""
        found = np.flatnonzero(self.order == self.position)
        return int(found[0]) if found.size else 0

    def move_to(self, place: int) -> None:
        """Put the cursor on the pair at a place of the order, or on the nearest one there is."""
        if self.order.size:
            self.position = int(self.order[min(max(place, 0), self.order.size - 1)])

    def find_wrong(self, step: int) -> int | None:
        """Return the place of the next (1) or the former (−1) pair in the order that is ranked wrong, None for none."""
        if not self.ledger.has_reference:
            return None
        wrong = np.flatnonzero(self.view.column("margins")[self.order] < 0)
        further = wrong[wrong > self.place] if step > 0 else wrong[wrong < self.place][::-1]
        return int(further[0]) if further.size else None

    def key(self, position: int) -> Key:
        """Return what names the pair at a position in the marks."""
        return str(self.ledger.stored["pair_id"][position]), int(self.ledger.occurrences[position])

    def mark_of(self, position: int) -> Mark:
        """Return the mark of the pair at a position."""
        return self.marks.of(self.key(position)) if len(self.marks) else Mark()

    def set_mark(self, position: int, mark: Mark) -> None:
        """Mark the pair at a position.

        Raises:
            ResourceError: The marks cannot be written.
        """
        self.marks.change(self.key(position), mark)
        self.generation += 1

    def undo_mark(self) -> bool:
        """Take the last mark back and return whether there was one.

        Raises:
            ResourceError: The marks cannot be written.
        """
        undone = self.marks.undo() is not None
        self.generation += undone
        return undone

    # Runs: a filter or an order that names what is not there any more is given up.

    def compare(self, number: int) -> bool:
        """Compare the shown run with another one and return whether the filter was kept."""
        return not self.runs.compare(number) or self._look_again()

    def show_run(self, number: int) -> bool:
        """Show another run, the cursor on the same pair, and return whether the filter was kept."""
        if number == self.runs.shown:
            return True
        place, found = self.place, self.runs.pairing(number).find(self.position)
        self.runs.show(number)
        self.position = found or 0
        kept = self._look_again()
        if self.position != found:
            self.move_to(place)
        return kept

    def _look_again(self) -> bool:
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
    """Return the stable order of keys, nan last either way."""
    if keys.dtype == object:
        # An array of texts is as wide as its longest one: whole prompts would take gigabytes.
        keys = np.array([str(key)[:SORTED_CHARACTERS] for key in keys])
    if keys.dtype.kind not in "if":
        ranks = np.unique(keys, return_inverse=True)[1]
        return np.argsort(-ranks if descending else ranks, kind="stable")
    return np.argsort(-keys if descending else keys, kind="stable")
