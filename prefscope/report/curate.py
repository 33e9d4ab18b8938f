"""Write the data set with its marks applied: dropped pairs left out, swapped ones exchanged, others unchanged.

Rows are the source rows kept in the ledger, so the file has the layout and the columns of the data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from prefscope.data.dialects import NotAPairError, dialect_of, normalise
from prefscope.data.records import Json, PreferencePair, SourceRow
from prefscope.errors import DataError, UsageError
from prefscope.ledger.marks import Marks
from prefscope.ledger.table import Ledger
from prefscope.report.files import known_suffix, refuse_sources, whole_file
from prefscope.report.row_files import SUFFIXES, Row, holds_every_row, read_rows, write_json_lines, write_rows

_COLUMNS = ["row", "line", "pair_id", "source_json"]


@dataclass(frozen=True, slots=True)
class Curated:
    """Counts of what was done."""

    written: int
    dropped: int
    swapped: int
    """Written pairs whose chosen and rejected are exchanged."""


def curated_suffix(name: str) -> str:
    """Return the suffix that determines the format of a curated data set.

    Raises:
        UsageError: The suffix is unknown.
    """
    return known_suffix(name, SUFFIXES)


def curate(ledger: Ledger, marks: Marks, path: Path) -> Curated:
    """Write the curated data set of a ledger's pairs, in the format of the file's suffix.

    The file appears only once it is complete and its rows have been read back as the intended pairs.

    Raises:
        UsageError: The suffix is unknown, the path is the ledger's, or no pair is left.
        DataError: A row cannot be swapped, or the format cannot hold it.
        ResourceError: The file cannot be written.
    """
    suffix = curated_suffix(path.name)
    refuse_sources(path, ledger)
    rows = _Rows(ledger, marks)
    with whole_file(path) as part:
        write_rows(part, suffix, rows)
        if not holds_every_row(suffix):
            rows.compare(read_rows(part, path.name, suffix), suffix)
    return rows.count


def write_curated(ledger: Ledger, marks: Marks, stream: TextIO) -> Curated:
    """Write the curated data set of a ledger's pairs as JSON lines to an open stream.

    Raises:
        UsageError: No pair is left.
        DataError: A row cannot be swapped.
    """
    rows = _Rows(ledger, marks)
    write_json_lines(stream, rows)
    return rows.count


class _Rows:
    """The rows to write; can be iterated any number of times."""

    def __init__(self, ledger: Ledger, marks: Marks) -> None:
        """Drop and swap the marked pairs.

        Raises:
            UsageError: No pair is left.
            DataError: A row cannot be swapped.
        """
        dropped = marks.mask(ledger, "drop")
        self._ledger = ledger.only(~dropped)
        swaps = marks.mask(self._ledger, "swap")
        self.count = Curated(self._ledger.num_pairs, int(dropped.sum()), int(swaps.sum()))
        if not self.count.written:
            raise UsageError("No pair is left to write", hint="Remove some drop marks, or select other pairs.")
        # How the rows were read when they were scored; older ledgers of ready-made log-probs do not record it.
        read = ledger.manifest.get("settings", {}).get("data", {})
        self._reading = {"dialect": read.get("dialect", "auto"), "mapping": read.get("mapping")}
        swapped = map(self._swapped, _stored(self._ledger.only(swaps)))
        self._changed = dict(zip(np.flatnonzero(swaps).tolist(), swapped, strict=True))

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in the order of the ledger."""
        for position, row in enumerate(_stored(self._ledger)):
            yield self._changed.get(position, row)

    def _swapped(self, row: Row) -> Row:
        value = row.value
        try:
            swapped = dialect_of(value, **self._reading).swap(value)
            before, after = self._pair(row, value), self._pair(row, swapped)
        except (DataError, UsageError) as error:
            reason = error.what.partition(";")[0]  # the rest is advice on how to score it
            raise DataError(
                f"This row cannot be swapped ({reason})", where=row.place, hint="Remove its mark, or drop it."
            ) from error
        if (after.prompt, after.chosen, after.rejected) != (before.prompt, before.rejected, before.chosen):
            raise DataError(
                "This row would be a different pair after swapping", where=row.place, hint="Drop it instead."
            )
        return Row(row.row, row.line, row.pair_id, json.dumps(swapped, ensure_ascii=False))

    def _pair(self, row: Row, value: Mapping[str, Json]) -> PreferencePair:
        return normalise(SourceRow(row.row, row.line, value), **self._reading)[0]

    def compare(self, found: Iterator[Mapping[str, Json] | None], suffix: str) -> None:
        """Check that the written rows read as the intended pairs.

        Raises:
            DataError: A row does not.
        """
        for row, value in zip(self, found, strict=True):
            if json.dumps(value, ensure_ascii=False) == row.source:  # identical, so there is no need to read it
                continue
            if value is None or self._meaning(row, value) != self._meaning(row, row.value):
                raise DataError(
                    f"This row would not be the same pair in {suffix.removesuffix('.gz')}",
                    where=row.place,
                    hint="Write .jsonl, which can store every row.",
                )

    def _meaning(self, row: Row, value: Mapping[str, Json]) -> str:
        """Return a row's pair as JSON, in which the order of keys matters as in a prompt; "" if it is not a pair."""
        try:
            return json.dumps(self._pair(row, value).content)
        except NotAPairError:
            return ""


def _stored(ledger: Ledger) -> Iterator[Row]:
    """Yield the source rows of a ledger."""
    for group in ledger.read(_COLUMNS):
        for row in zip(*(group[name] for name in _COLUMNS), strict=True):
            yield Row(*row)
