"""Rows that are no pairs: refused all together, or left out and counted."""

from __future__ import annotations

from collections.abc import Sequence

from prefscope.data.records import BadRow
from prefscope.errors import DataError
from prefscope.events import Noted

LISTED_ROWS = 20


def judge_bad_rows(name: str, bad: Sequence[BadRow], pairs: int, *, skip: bool) -> list[Noted]:
    """Return what to say of the bad rows of a data set.

    Args:
        name: The data set, for people.
        bad: Its bad rows.
        pairs: How many good ones it has.
        skip: Whether bad rows are to be left out.

    Raises:
        DataError: There is no pair, or there are bad rows that are not to be skipped.
    """
    if bad and (not skip or pairs == 0):
        raise DataError(
            f"{counted(len(bad), 'row')} cannot be read as preference pairs:\n{_listed(name, bad)}\nNothing was scored",
            where=name,
            hint="" if skip else "Mend the rows, or leave them out with --skip-bad-rows.",
        )
    if pairs == 0:
        raise DataError("There is no pair in this data set", where=name)
    return [Noted(f"{counted(len(bad), 'bad row')} skipped:\n{_listed(name, bad)}")] if bad else []


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it has to be."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(name: str, bad: Sequence[BadRow]) -> str:
    """Return the places of bad rows, the first ones with their reasons."""
    lines = [f"  {row.file or name}:{row.line}: {row.reason}" for row in bad[:LISTED_ROWS]]
    if len(bad) > LISTED_ROWS:
        places = (f"{row.file}:{row.line}" if row.file else str(row.line) for row in bad[LISTED_ROWS:])
        lines.append(f"  and lines {', '.join(places)}")
    return "\n".join(lines)
