"""Handling of rows that are not preference pairs: refuse the data set, or skip and count them."""

from __future__ import annotations

from collections.abc import Sequence

from prefscope.data.records import BadRow
from prefscope.errors import DataError
from prefscope.events import Noted

LISTED_ROWS = 20


def judge_bad_rows(name: str, bad: Sequence[BadRow], pairs: int, *, skip: bool) -> list[Noted]:
    """Return the notes on a data set's bad rows.

    Args:
        name: Display name of the data set.
        bad: Its bad rows.
        pairs: Number of good pairs.
        skip: Whether to skip bad rows.

    Raises:
        DataError: If there are no pairs, or there are bad rows and `skip` is false.
    """
    if bad and (not skip or pairs == 0):
        raise DataError(
            f"{counted(len(bad), 'row')} cannot be read as preference pairs:\n{_listed(name, bad)}\nNothing was scored",
            where=name,
            hint="" if skip else "Fix the rows, or skip them with --skip-bad-rows.",
        )
    if pairs == 0:
        raise DataError("This data set has no pairs", where=name)
    return [Noted(f"{counted(len(bad), 'bad row')} skipped:\n{_listed(name, bad)}")] if bad else []


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(name: str, bad: Sequence[BadRow]) -> str:
    """List bad rows by file and line; the first ones also with their reasons."""
    lines = [f"  {row.file or name}:{row.line}: {row.reason}" for row in bad[:LISTED_ROWS]]
    if len(bad) > LISTED_ROWS:
        places = (f"{row.file}:{row.line}" if row.file else str(row.line) for row in bad[LISTED_ROWS:])
        lines.append(f"  and lines {', '.join(places)}")
    return "\n".join(lines)
