"""A session: a ledger with its knobs, filter, sort order and marks.

This module does not use widgets. Every change increments `generation`, so that panes can detect stale drawings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import LedgerError, PrefscopeError
from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.filters import Uses
from prefscope.ledger.marks import Key, Mark, Marks
from prefscope.ledger.run_folder import RunFolder, load_steps
from prefscope.ledger.scopes import load_scopes, save_scopes
from prefscope.ledger.search import Needle
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

    def __init__(
        self,
        ledger: Ledger,
        preferences: PreferenceSettings,
        others: Sequence[Ledger] = (),
        steps: Sequence[int] | None = None,
    ) -> None:
        """Show the first of some ledgers of the same pairs, compared with the second; of a training, the last two.

        Args:
            ledger: The first ledger.
            preferences: Beta and losses: the initial values of the knobs.
            others: The other ledgers, in the order of training.
            steps: The step of every ledger; None if it is unknown.
        """
        self.runs = Runs([ledger, *others], steps)
        self.folder: RunFolder | None = None
        """The run folder of the ledgers, if they are in one."""
        self.initial = preferences
        self.view = self.runs.view(preferences)
        self._first: dict[str, float] = {}
        """Means of columns with the initial preferences."""
        self.expression = ""
        """The scope: the pairs that match this expression. Every pane but Pair shows these pairs; empty for all."""
        self._uses: tuple[str, Uses] | None = None
        """Cached: an expression, and what it refers to."""
        self._wider: list[str] = []
        """The expressions of the scopes that this one was narrowed from."""
        self._matching = np.ones(self.ledger.num_pairs, dtype=np.bool_)
        self._scoped: tuple[View, View, View | None] | None = None
        """Cached: the whole view, and its parts inside and outside the scope."""
        self.scope_number = 0
        """Incremented if other pairs are in the scope."""
        self.sort = Sort()
        self.columns: tuple[str, ...] | None = None
        """The columns chosen for the table of pairs; None: chosen automatically."""
        self.generation = 0
        self.position = 0
        """Position in the ledger of the pair under the cursor."""
        self.order: NDArray[np.int64] = np.arange(self.ledger.num_pairs)
        """Positions of the pairs that match the filter, in sort order. Shape (matching pairs,)."""
        self.is_stale = False
        """Whether filter and order were computed from older numbers than those shown."""

    @classmethod
    def of_training(cls, folder: RunFolder, preferences: PreferenceSettings) -> Session:
        """Return a session with the checkpoints of a run folder; the screens add those that are scored later.

        Raises:
            UsageError: No checkpoint is scored yet.
            LedgerError: A ledger or the index cannot be read.
        """
        (first, *others), steps = load_steps(folder)
        session = cls(first, preferences, others, steps)
        session.folder = folder
        return session

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
        """Return the mean of a column in the scope with the initial preferences; only the mean is cached."""
        if column not in self._first:
            self._first[column] = mean_of(View(self.scoped.ledger, self.initial), column)
        return self._first[column]

    @property
    def scoped(self) -> View:
        """The pairs in the scope."""
        return self._parts()[0]

    @property
    def rest(self) -> View | None:
        """The other pairs; None if there are none."""
        return self._parts()[1]

    def _parts(self) -> tuple[View, View | None]:
        if self._scoped is None or self._scoped[0] is not self.view:
            inside, outside = self.view, None
            if not self._matching.all():
                inside, outside = self.view.only(self._matching), self.view.only(~self._matching)
            self._scoped = self.view, inside, outside
        return self._scoped[1:]

    def views_of_runs(self) -> list[View]:
        """Return a view of every run with the pairs in the scope."""
        views = []
        for number, ledger in enumerate(self.runs.ledgers):
            whole = View(ledger, self.preferences)
            if not self._matching.all() and number != self.runs.shown:
                first, second = self.runs.pairing(number).positions
                wanted = np.zeros(ledger.num_pairs, dtype=np.bool_)
                wanted[second[self._matching[first]]] = True
                whole = whole.only(wanted)
            views.append(self.scoped if number == self.runs.shown else whole)
        return views

    def set_preferences(self, preferences: PreferenceSettings) -> None:
        """Change the knobs, and update the filter and order."""
        self.view = self.runs.view(preferences)
        self.arrange()

    @property
    def uses(self) -> Uses:
        """What the scope's expression refers to; nothing if a scope that it names has been forgotten."""
        if self._uses is None or self._uses[0] != self.expression:
            try:
                found = self.view.parse(self.expression).uses
            except PrefscopeError:
                found = Uses()
            self._uses = self.expression, found
        return self._uses[1]

    @property
    def needles(self) -> tuple[Needle, ...]:
        """What the scope's expression searches texts for, to be highlighted."""
        return (*self.uses.needles, *map(Needle, self.uses.contained))

    def is_valid(self, expression: str) -> bool:
        """Return whether an expression can be evaluated with the columns of this view."""
        try:
            self.view.parse(expression)
        except PrefscopeError:
            return False
        return True

    def set_filter(self, expression: str) -> None:
        """Show only the pairs that match an expression.

        Raises:
            FilterError: If the expression is invalid or names an unknown column; nothing changes then.
        """
        self.view.parse(expression)
        self.expression = expression
        self._wider.clear()
        self.arrange()

    def narrow(self, expression: str) -> None:
        """Reduce the scope to those of its pairs that match an expression; an empty one changes nothing.

        Raises:
            FilterError: If the expression is invalid or names an unknown column; nothing changes then.
        """
        if expression and expression != self.expression:
            wider = [*self._wider, self.expression]
            self.set_filter(f"({self.expression}) and ({expression})" if self.expression else expression)
            self._wider = wider

    def widen(self) -> bool:
        """Go back to the scope that this one was narrowed from, or to all pairs; return whether there was a scope."""
        if not self.expression:
            return False
        *wider, last = self._wider or [""]
        self.set_filter(last)
        self._wider = wider
        return True

    @property
    def scopes(self) -> dict[str, str]:
        """The named scopes: expressions by name; none if their file is damaged."""
        try:
            return load_scopes(self.ledger.path)
        except LedgerError:
            return {}

    def name_scope(self, name: str, expression: str) -> None:
        """Give an expression a name, or with an empty expression, forget the name.

        Raises:
            ResourceError: If the file of scopes cannot be written.
            LedgerError: If it is damaged.
        """
        others = {known: one for known, one in load_scopes(self.ledger.path).items() if known != name}
        save_scopes(self.ledger.path, others | ({name: expression} if expression else {}))

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
        self.scope_number += 1
        self.is_stale = bool(self.expression) or self.sort.column not in SETTLED
        self.generation += 1

    def arrange(self) -> None:
        """Apply the filter and sort order; the cursor stays on its pair if it still matches."""
        previous = self.place
        matching = self.view.filter(self.expression)
        if not np.array_equal(matching, self._matching):
            self._first.clear()
            self.scope_number += 1
        self._matching, self._scoped = matching, None
        self.order = np.flatnonzero(matching)
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

    def set_marks(self, marks: Mapping[int, Mark]) -> None:
        """Change the marks of the pairs at some positions in the ledger; one `undo_marks` takes them back.

        Raises:
            ResourceError: If the marks cannot be written.
        """
        positions = np.array([*marks], dtype=np.int64)
        self.marks.change(dict(zip(self.ledger.ids_at(positions), marks.values(), strict=True)))
        self._outdate_marks()

    def undo_marks(self) -> int:
        """Undo the last change of marks; return the number of its pairs, 0 if there was none.

        Raises:
            ResourceError: If the marks cannot be written.
        """
        undone = self.marks.undo()
        if undone:
            self._outdate_marks()
        return undone

    def _outdate_marks(self) -> None:
        """Note that marks have changed: rows stay where they are, though filter or order may use them."""
        uses = self.uses
        if "mark" in uses.functions or not {*self.view.marked_names}.isdisjoint({*uses.columns, self.sort.column}):
            self.is_stale = True
        self.generation += 1

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

    def add_run(self, ledger: Ledger, step: int) -> None:
        """Add a run of the same pairs; what is shown stays, and rows do not jump.

        Raises:
            LedgerError: If its marks are damaged or were written by a newer version.
        """
        self.runs.add(ledger, step)
        self.view = self.runs.view(self.preferences)
        used = {*self.uses.columns, self.sort.column}
        self.is_stale = self.is_stale or not used.isdisjoint(self.view.course_names)
        self.generation += 1

    def _rebuild_view(self) -> bool:
        self.view = self.runs.view(self.preferences)
        self._first.clear()
        if self.sort.column not in self.view.names.kinds:
            self.sort = Sort()
        kept = self.is_valid(self.expression)
        if not kept:
            self.expression = ""
            self._wider.clear()
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
