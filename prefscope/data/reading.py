"""Rows of a source as preference pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import BadRow, PreferencePair
from prefscope.data.sources import Source


def pairs_of(
    source: Source, *, dialect: str = "auto", mapping: Mapping[str, str] | None = None
) -> Iterator[tuple[PreferencePair, str] | BadRow]:
    """Yield every row's pair with the dialect that it was read in, or why it is none.

    Raises:
        DataError: What follows cannot be read at all.
        UsageError: There is no dialect of that name, or the mapping is incomplete.
    """
    for row in source.rows():
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            yield normalise(row, dialect=dialect, mapping=mapping)
        except NotAPairError as error:
            yield BadRow(row.row, row.line, error.reason)
