"""A cache of the first characters of texts, which are read when their pairs scroll into view."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from prefscope.ledger.table import Ledger

LENGTH = 400
"""Characters kept of each text, more than the widest cell shows."""
KEPT = 20_000
"""Maximum number of cached texts; the oldest are removed first."""


class Beginnings:
    """A cache of the first characters of one text column."""

    def __init__(self, ledger: Ledger, column: str) -> None:
        self.ledger = ledger
        self.column = column
        self._known: dict[int, str] = {}

    def get(self, position: int) -> str | None:
        """Return the beginning of a pair's text, or None if it has not been read yet."""
        return self._known.get(position)

    def load(self, positions: Iterable[int], groups: int) -> bool:
        """Read the missing texts of some pairs, from at most `groups` row groups; return whether all are cached now."""
        wanted = list(positions)
        for position in wanted:
            if position in self._known:
                continue
            if groups == 0:
                return False
            groups -= 1
            first, texts = self.ledger.beginnings(position, self.column, LENGTH)
            self._known |= zip(range(first, first + len(texts)), texts, strict=True)
        self._forget(wanted)
        return True

    def _forget(self, wanted: list[int]) -> None:
        """Remove the oldest texts, except those that are wanted now."""
        surplus = len(self._known) - KEPT
        if surplus > 0:
            kept = set(wanted)
            for position in list(itertools.islice(self._known, surplus)):
                if position not in kept:
                    del self._known[position]
