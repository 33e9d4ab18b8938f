"""The ledgers that are on the screen: one is shown, another is compared with it.

Nothing here knows of widgets.
"""

from __future__ import annotations

from collections.abc import Sequence

from prefscope.ledger.marks import Marks, load_marks
from prefscope.ledger.pairing import PairedView, Pairing, run_names
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.settings import PreferenceSettings


class Runs:
    """One ledger or several, of which the first is shown at first and compared with the second."""

    def __init__(self, ledgers: Sequence[Ledger]) -> None:
        """Read the marks of each ledger.

        Raises:
            LedgerError: Marks are damaged or of a newer version.
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
        """The ledger that is shown."""
        return self.ledgers[self.shown]

    @property
    def marks(self) -> Marks:
        """The marks of the ledger that is shown."""
        return self._marks[self.shown]

    @property
    def both(self) -> tuple[str, str]:
        """The names of the shown run and of the compared one, empty for none."""
        return self.names[self.shown], "" if self.compared is None else self.names[self.compared]

    @property
    def compares_margins(self) -> bool:
        """Whether `margins_b` is a column of the view."""
        return self.compared is not None and self.ledgers[self.compared].has_reference

    def view(self, preferences: PreferenceSettings) -> View:
        """Return a view of the shown run, with the columns of the compared one where there is one."""
        if self.compared is None:
            return View(self.ledger, preferences, self.marks)
        return PairedView(
            self.ledger, preferences, self.marks, self.ledgers[self.compared], self.pairing(self.compared)
        )

    def pairing(self, number: int) -> Pairing:
        """Return which pairs the shown run shares with another."""
        numbers = self.shown, number
        return self._pairings.setdefault(numbers, Pairing(*(self.ledgers[one] for one in numbers)))

    def renew(self, ledger: Ledger) -> None:
        """Put a ledger of the same pairs in the place of the shown one; its marks stay."""
        self.ledgers = (*self.ledgers[: self.shown], ledger, *self.ledgers[self.shown + 1 :])
        self._pairings.clear()

    def show(self, number: int) -> None:
        """Show another run, compared with the one that was shown until now."""
        if number != self.shown:
            self.shown, self.compared = number, self.shown

    def compare(self, number: int) -> bool:
        """Compare the shown run with another and return whether that is a change."""
        if number in (self.shown, self.compared):
            return False
        self.compared = number
        return True
