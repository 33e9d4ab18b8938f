"""The open ledgers: one is shown, and another may be compared with it.

This module does not use widgets.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from prefscope.ledger.courses import LEAST_RUNS, Courses
from prefscope.ledger.marks import Marks, load_marks, marks_path
from prefscope.ledger.pairing import PairedView, Pairing, courses_of, run_names
from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.settings import PreferenceSettings


class Runs:
    """One or more open ledgers; initially the first is shown and compared with the second.

    Of a training, whose steps are known, the last one is shown and compared with the one before.
    """

    def __init__(self, ledgers: Sequence[Ledger], steps: Sequence[int] | None = None) -> None:
        """Read the marks of each ledger.

        Args:
            ledgers: The ledgers, in the order of training.
            steps: The step of each; None if it is unknown.

        Raises:
            LedgerError: If marks are damaged or were written by a newer version.
        """
        self.ledgers = tuple(ledgers)
        self.has_steps = steps is not None
        """Whether the steps are those of a training, not just 1, 2, 3, …"""
        self.steps = tuple(range(1, len(self.ledgers) + 1) if steps is None else steps)
        self.names = run_names(self.ledgers)
        last = len(self.ledgers) - 1
        self.shown = last if self.has_steps else 0
        self.compared: int | None = None if last == 0 else last - 1 if self.has_steps else 1
        self._marks: list[Marks] = []
        for ledger in self.ledgers:
            self._marks.append(self._marks_of(ledger))
        self._pairings: dict[tuple[int, int], Pairing] = {}
        self._courses: Courses | None = None

    def __len__(self) -> int:
        return len(self.ledgers)

    @property
    def is_training(self) -> bool:
        """Whether these are the checkpoints of a training: their steps are known, or they are three or more."""
        return self.has_steps or len(self) >= LEAST_RUNS

    @property
    def ledger(self) -> Ledger:
        """The shown ledger."""
        return self.ledgers[self.shown]

    @property
    def marks(self) -> Marks:
        """The marks of the shown ledger."""
        return self._marks[self.shown]

    def _marks_of(self, ledger: Ledger) -> Marks:
        """Return the marks of a ledger: the same object for ledgers that share their file."""
        path = marks_path(ledger.path)
        known = next((marks for marks in self._marks if marks.path == path), None)
        return load_marks(ledger.path) if known is None else known

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
        other, pairing = self.ledgers[self.compared], self.pairing(self.compared)
        return PairedView(self.ledger, preferences, self.marks, other, pairing).with_courses(self.courses)

    @property
    def courses(self) -> Courses | None:
        """The courses of the shown ledger's pairs; None for fewer than three runs, or if one has no reference."""
        if self._courses is None:
            self._courses = courses_of(self.ledgers, self.steps, self.shown, self.pairing)
        return self._courses

    def add(self, ledger: Ledger, step: int) -> None:
        """Add a run at its place in the training; the runs that are shown and compared stay the same.

        Raises:
            LedgerError: If its marks are damaged or were written by a newer version.
        """
        marks = self._marks_of(ledger)
        place = bisect.bisect_left(self.steps, step)
        self.ledgers = (*self.ledgers[:place], ledger, *self.ledgers[place:])
        self.steps = (*self.steps[:place], step, *self.steps[place:])
        self.names = run_names(self.ledgers)
        self._marks.insert(place, marks)
        self.shown += place <= self.shown
        if self.compared is None:
            self.compared = place
        else:
            self.compared += place <= self.compared
        self._pairings.clear()
        self._courses = None

    def pairing(self, number: int) -> Pairing:
        """Return the pairing of the shown run with another run: which pairs they share."""
        numbers = self.shown, number
        return self._pairings.setdefault(numbers, Pairing(*(self.ledgers[one] for one in numbers)))

    def replace_ledger(self, ledger: Ledger) -> None:
        """Replace the shown ledger with another ledger of the same pairs; its marks are kept."""
        self.ledgers = (*self.ledgers[: self.shown], ledger, *self.ledgers[self.shown + 1 :])
        self._pairings.clear()
        self._courses = None

    def show(self, number: int) -> None:
        """Show another run, and compare it with the previously shown one."""
        if number != self.shown:
            self.shown, self.compared, self._courses = number, self.shown, None

    def compare(self, number: int) -> bool:
        """Compare the shown run with another; return whether this changed anything."""
        if number in (self.shown, self.compared):
            return False
        self.compared = number
        return True
