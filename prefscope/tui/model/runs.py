"""The open ledgers: one is shown, and another may be compared with it.

This module does not use widgets.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefscope.ledger.marks import Marks, load_marks
from prefscope.ledger.pairing import PairedView, Pairing, run_names
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.settings import PreferenceSettings


class Runs:
    """One or more open ledgers; initially the first is shown and compared with the second."""

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        """Read the marks of each ledger.

        Raises:
            LedgerError: If marks are damaged or were written by a newer version.
        """
        self.ledgers = tuple(ledgers)
        self.names = run_names(self.ledgers)
        self.shown = 0
        self.compared: int | None = 1 if len(self.ledgers) > 1 else None
        self._marks = [load_marks(ledger.path) for ledger in self.ledgers]
        self._pairings: dict[tuple[int, int], Pairing] = {}

    def __len__(self) -> int:
        return len(self.ledgers)

    @property
    def ledger(self) -> Ledger:
        """The shown ledger."""
        return self.ledgers[self.shown]

    @property
    def marks(self) -> Marks:
        """The marks of the shown ledger."""
        return self._marks[self.shown]

    @property
    def both(self) -> tuple[str, str]:
        """The names of the shown run and the compared run (empty if there is none)."""
        return self.names[self.shown], "" if self.compared is None else self.names[self.compared]

    @property
    def compares_margins(self) -> bool:
        """Whether `margins_b` is a column of the view."""
        return self.compared is not None and self.ledgers[self.compared].has_reference

    def view(self, preferences: PreferenceSettings) -> View:
        """Return a view of the shown run, with the columns of the compared run if there is one."""
        if self.compared is None:
            return View(self.ledger, preferences, self.marks)
        return PairedView(
            self.ledger, preferences, self.marks, self.ledgers[self.compared], self.pairing(self.compared)
        )

    def pairing(self, number: int) -> Pairing:
        """Return the pairing of the shown run with another run: which pairs they share."""
        numbers = self.shown, number
        return self._pairings.setdefault(numbers, Pairing(*(self.ledgers[one] for one in numbers)))

    def replace_ledger(self, ledger: Ledger) -> None:
        """Replace the shown ledger with another ledger of the same pairs; its marks are kept."""
        self.ledgers = (*self.ledgers[: self.shown], ledger, *self.ledgers[self.shown + 1 :])
        self._pairings.clear()

    def show(self, number: int) -> None:
        """Show another run, and compare it with the previously shown one."""
        if number != self.shown:
            self.shown, self.compared = number, self.shown

    def compare(self, number: int) -> bool:
        """Compare the shown run with another; return whether this changed anything."""
        if number in (self.shown, self.compared):
            return False
        self.compared = number
        return True
