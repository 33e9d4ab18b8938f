"""Join ledgers of the same pairs: find the shared pairs of two, and view the columns of both together.

Pairs are joined by pair_id and its occurrence, so that the second copy of a duplicate matches the second copy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import UsageError
from prefscope.ledger.arrays import Columns
from prefscope.ledger.columns import OF_THE_PAIR
from prefscope.ledger.courses import LEAST_RUNS, Courses
from prefscope.ledger.filters import Names
from prefscope.ledger.marks import Marks
from prefscope.ledger.names import SUFFIX, ambiguities
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View
from prefscope.settings import PreferenceSettings

OTHER_MARGINS = f"margins{SUFFIX}"


def load_runs(paths: Iterable[Path]) -> list[Ledger]:
    """Load several ledgers, in order.

    Raises:
        UsageError: If a file is named twice.
        LedgerError: If a file does not exist, is not a ledger, or was written by a newer version.
    """
    found: dict[Path, Ledger] = {}
    for path in paths:
        if path.resolve() in found:
            raise UsageError("This ledger is named twice", where=str(path), hint="Name each ledger only once.")
        found[path.resolve()] = load_ledger(path)
    return list(found.values())


def run_names(ledgers: Sequence[Ledger]) -> list[str]:
    """Return a name for each run: its file name, preceded by as many folders as needed to make it unique."""
    paths = [ledger.path.resolve() for ledger in ledgers]
    parts = [(*path.parts[1:-1], path.name.removesuffix(".parquet")) for path in paths]
    names = []
    for path, one in zip(paths, parts, strict=True):
        tails = (one[-depth:] for depth in range(1, len(one) + 1))
        unlike = (tail for tail in tails if sum(other[-len(tail) :] == tail for other in parts) == 1)
        names.append("/".join(next(unlike, (str(path),))))
    return names


class Pairing:
    """The pairs that two ledgers share, determined on first access."""

    def __init__(self, a: Ledger, b: Ledger) -> None:
        self._ledgers = a, b

    @functools.cached_property
    def positions(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the shared pairs in the first ledger, ascending, and in the second. Shape (shared,) each."""
        a, b = self._ledgers
        _, first, second = np.intersect1d(*a.number_pairs(b), assume_unique=True, return_indices=True)
        ascending = np.argsort(first)
        return first[ascending], second[ascending]

    @property
    def num_pairs(self) -> int:
        """Number of shared pairs."""
        return len(self.positions[0])

    @property
    def missing(self) -> tuple[int, int]:
        """Number of pairs that are only in the second ledger, and only in the first."""
        a, b = self._ledgers
        return b.num_pairs - self.num_pairs, a.num_pairs - self.num_pairs

    def find(self, position: int) -> int | None:
        """Return the position in the second ledger of a pair of the first, or None if it is not there."""
        first, second = self.positions
        at = int(np.searchsorted(first, position))
        return int(second[at]) if at < len(first) and first[at] == position else None

    def align(self, values: NDArray[Any]) -> NDArray[Any]:
        """Reorder values of the second ledger's pairs to match the first; nan or "" for missing pairs."""
        first, second = self.positions
        is_text = values.dtype.kind in "OU"
        size = self._ledgers[0].num_pairs
        aligned = np.full(size, "", dtype=object) if is_text else np.full(size, np.nan)
        aligned[first] = values[second]
        return aligned


def courses_of(
    ledgers: Sequence[Ledger], steps: Sequence[int], shown: int, pairing: Callable[[int], Pairing]
) -> Courses | None:
    """Return the courses of the pairs of one of several ledgers; None for fewer than three, or if one has no reference.

    Args:
        ledgers: The ledgers, in the order of training.
        steps: The step of each.
        shown: The number of the ledger whose pairs are followed.
        pairing: Returns the pairing of that ledger with another one, by its number.
    """
    if len(ledgers) < LEAST_RUNS or not all(ledger.has_reference for ledger in ledgers):
        return None
    margins = [ledger.rewards(1.0)["margins"] for ledger in ledgers]
    own = [one if number == shown else pairing(number).align(one) for number, one in enumerate(margins)]
    return Courses.of(steps, np.array(own))


class PairedView(View):
    """A ledger's columns, and those of another run on the same pairs with the suffix `_b`."""

    def __init__(
        self,
        ledger: Ledger,
        preferences: PreferenceSettings,
        marks: Marks | None,
        other: Ledger,
        pairing: Pairing,
    ) -> None:
        super().__init__(ledger, preferences, marks)
        self.other = View(other, preferences)
        self.pairing = pairing
        self._theirs = {
            f"{name}{SUFFIX}": name
            for name in self.other.names.kinds
            if name not in {*OF_THE_PAIR, *other.extra_columns, *self.other.marked_names}
        }
        self.names = self._with_theirs(self.names)

    def only(self, wanted: NDArray[np.bool_]) -> PairedView:
        """Return a view of the pairs selected by a mask, in both runs."""
        first, second = self.pairing.positions
        theirs = np.zeros(self.other.ledger.num_pairs, dtype=np.bool_)
        theirs[second[wanted[first]]] = True
        ledger, other = self.ledger.only(wanted), self.other.only(theirs)
        part = PairedView(ledger, self.preferences, self.marks, other.ledger, Pairing(ledger, other.ledger))
        part.other = other
        return part.inherit(self, wanted)

    def _with_theirs(self, names: Names) -> Names:
        """Return the column names of both runs."""
        theirs = self.other.names
        other = {f"{alias}{SUFFIX}": f"{name}{SUFFIX}" for alias, name in theirs.aliases.items()}
        aliases = {**names.aliases, **{alias: name for alias, name in other.items() if name in self._theirs}}
        kinds = {**names.kinds, **{name: theirs.kinds[own] for name, own in self._theirs.items()}}
        return Names(kinds, aliases, ambiguities(self.ledger.renamed_columns, kinds, aliases))

    def _find(self, name: str) -> Columns:
        if name in self._theirs:
            return {name: self.pairing.align(self.other.column(self._theirs[name]))}
        return super()._find(name)
