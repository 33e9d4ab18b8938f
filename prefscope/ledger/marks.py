"""The user's decisions about pairs: keep, drop, swap, a note. Stored beside the ledger, `x.parquet` → `x.marks.json`.

Marks are keyed by pair_id and its occurrence in the ledger, so they are valid for every ledger of the same pairs. They
do not depend on settings or scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import UNREADABLE, LedgerError, ResourceError
from prefscope.ledger.file import beside
from prefscope.ledger.table import Ledger
from prefscope.private import make_folder, replace_json

FORMAT_VERSION = 1
Decision: TypeAlias = Literal["keep", "drop", "swap"]
Key: TypeAlias = tuple[str, int]
"""A pair: its pair_id, and how many earlier pairs have the same one."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The decision about a pair, and a note."""

    decision: Decision | None = None
    note: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is neither a decision nor a note."""
        return self.decision is None and not self.note


EMPTY = Mark()


class Marks:
    """The marks of a ledger's pairs; every change can be undone."""

    def __init__(self, path: Path, marks: Mapping[Key, Mark] | None = None) -> None:
        self.path = path
        self._marks = dict(marks or {})
        self._undo_stack: list[Mapping[Key, Mark]] = []
        """Previous marks of the pairs of each change."""
        self.generation = 0
        """Incremented with every change."""

    def __len__(self) -> int:
        return len(self._marks)

    def __iter__(self) -> Iterator[tuple[Key, Mark]]:
        return iter(self._marks.items())

    def of(self, key: Key) -> Mark:
        """Return a pair's mark, or an empty mark."""
        return self._marks.get(key, EMPTY)

    def change(self, marks: Mapping[Key, Mark]) -> None:
        """Set the marks of some pairs and save them; an empty mark removes one. One `undo` takes all of them back.

        Raises:
            ResourceError: If the file cannot be written; the marks are then unchanged.
        """
        previous = {key: self.of(key) for key in marks}
        self._replace(marks, previous)
        self._undo_stack.append(previous)

    def undo(self) -> int:
        """Undo the last change and return the number of its pairs; 0 if there is nothing to undo.

        Raises:
            ResourceError: If the file cannot be written; nothing is then undone.
        """
        if not self._undo_stack:
            return 0
        previous = self._undo_stack[-1]
        self._replace(previous, {key: self.of(key) for key in previous})
        self._undo_stack.pop()
        return len(previous)

    def places(self, ledger: Ledger) -> Iterator[tuple[int, Mark]]:
        """Yield the positions of the marked pairs of a ledger, with their marks."""
        positions = ledger.find({pair_id for pair_id, _ in self._marks}) if self._marks else np.zeros(0, dtype=np.int64)
        for position, key in zip(positions.tolist(), ledger.ids_at(positions), strict=True):
            if key in self._marks:
                yield position, self._marks[key]

    def mask(self, ledger: Ledger, kind: str) -> NDArray[np.bool_]:
        """Return which pairs of a ledger have a certain decision, a `note`, or `any` mark. Shape (num_pairs,)."""
        found = np.zeros(ledger.num_pairs, dtype=np.bool_)
        found[[position for position, mark in self.places(ledger) if _is(mark, kind)]] = True
        return found

    def column(self, ledger: Ledger, name: str) -> NDArray[Any]:
        """Return the column `mark` or `note` of a ledger: texts, empty for pairs without one. Shape (num_pairs,)."""
        values = np.full(ledger.num_pairs, "", dtype=object)
        for position, mark in self.places(ledger):
            values[position] = mark.note if name == "note" else mark.decision or ""
        return values

    def _replace(self, marks: Mapping[Key, Mark], previous: Mapping[Key, Mark]) -> None:
        """Set marks and save them, or set the previous ones again if they cannot be saved."""
        self._set(marks)
        try:
            self._save()
        except ResourceError:
            self._set(previous)
            raise
        self.generation += 1

    def _set(self, marks: Mapping[Key, Mark]) -> None:
        for key, mark in marks.items():
            self._put(key, mark)

    def _put(self, key: Key, mark: Mark) -> None:
        if mark.is_empty:
            self._marks.pop(key, None)
        else:
            self._marks[key] = mark

    def _save(self) -> None:
        """Write the file atomically; it is deleted with the last mark."""
        rows = [
            {"pair_id": pair_id, "occurrence": at, "decision": mark.decision, "note": mark.note}
            for (pair_id, at), mark in self
        ]
        try:
            if not rows:
                self.path.unlink(missing_ok=True)
                return
            make_folder(self.path.parent)
            replace_json(self.path, {"format": FORMAT_VERSION, "marks": rows})
        except OSError as error:
            reason = error.strerror or str(error)
            raise ResourceError(
                f"The marks cannot be written ({reason})",
                where=str(self.path),
                hint="Copy the ledger to a writable folder.",
            ) from error


def _is(mark: Mark, kind: str) -> bool:
    return kind in {"any", mark.decision} or (kind == "note" and bool(mark.note))


def marks_path(ledger: Path) -> Path:
    """Return the path of a ledger's marks."""
    return beside(ledger, ".marks.json")


def load_marks(ledger: Path) -> Marks:
    """Load the marks of a ledger; there are none if the file does not exist.

    Raises:
        LedgerError: If the file is damaged or of a newer version.
    """
    path = marks_path(ledger)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT_VERSION:
            what = "These marks were written by a newer prefscope"
            raise LedgerError(what, where=str(path), hint="Update prefscope.")
        return Marks(path, dict(_read(row) for row in content["marks"]))
    except FileNotFoundError:
        return Marks(path)
    except (OSError, KeyError, TypeError, *UNREADABLE) as error:
        raise LedgerError(
            f"These marks cannot be read ({type(error).__name__}: {error})",
            where=str(path),
            hint="Fix the file, or move it away to start without marks.",
        ) from error


def _read(row: Mapping[str, Any]) -> tuple[Key, Mark]:
    decision, note = row["decision"], row["note"]
    if decision not in (None, *get_args(Decision)) or not isinstance(note, str):
        raise ValueError(f"{decision} is not a decision")
    pair_id, occurrence = row["pair_id"], row["occurrence"]
    if not isinstance(pair_id, str) or type(occurrence) is not int or occurrence < 0:
        raise ValueError(f"{pair_id!r} with occurrence {occurrence!r} does not identify a pair")
    return (pair_id, occurrence), Mark(decision, note)
