"""Strict parsing of log-probs, token counts and flags from a file, since wrong values would go unnoticed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from prefscope.data.dialects.turns import kind
from prefscope.data.records import Json
from prefscope.errors import DataError
from prefscope.flags import FLAGS, split_flags

LARGEST_COUNT = (1 << 31) - 1
ROUNDING = 1e-3
"""Largest log-prob of a response that rounding can explain."""
UNKNOWN = -1
"""Stands for an unknown token count."""
_NUMBER = re.compile(r"\s*[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|inf|infinity|nan)\s*", re.ASCII | re.IGNORECASE)


def logp_of(row: Mapping[str, Json], column: str) -> float | None:
    """Return the log-prob in a column, or None if the cell is empty.

    Raises:
        DataError: If the value is not a number, or is positive.
    """
    number = _number(row, column)
    if number is not None and number > ROUNDING:
        raise DataError(f"{column} is {row[column]!r}, but the log of a probability is never above 0")
    return number


def count_of(row: Mapping[str, Json], column: str) -> int:
    """Return the token count in a column, or -1 if the cell is empty.

    Raises:
        DataError: If the value is not a whole number of tokens.
    """
    number = _number(row, column)
    if number is None or math.isnan(number):
        return UNKNOWN
    if not number.is_integer() or not UNKNOWN <= number <= LARGEST_COUNT:
        raise DataError(f"{column} is {number:g}, not a number of tokens")
    return int(number)


def pair_id_of(row: Mapping[str, Json]) -> str | None:
    """Return the pair's id, or None if the row has none.

    Raises:
        DataError: If the id is not a string.
    """
    found = row.get("pair_id")
    if found is not None and not isinstance(found, str):
        raise DataError(f"pair_id is {kind(found)}, not text")
    return found or None


def flags_of(row: Mapping[str, Json]) -> list[str]:
    """Return the flags of a row, in the format of our own exports.

    Raises:
        DataError: If a flag is unknown.
    """
    found = row.get("flags")
    flags = [] if found is None else split_flags(str(found))
    unknown = next((flag for flag in flags if flag not in FLAGS), None)
    if unknown is not None:
        raise DataError(f"flags has {unknown!r}, which is not a flag of prefscope; rename the column if it is your own")
    return flags


def _number(row: Mapping[str, Json], column: str) -> float | None:
    """Return the number in a column, which may be a string (from CSV), or None if the cell is empty."""
    value = row.get(column)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise DataError(f"{column} is {value!r}, not a number")
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise DataError(f"{column} is {value!r}, not a number")
    try:
        return float(value)
    except OverflowError:
        digits = len(str(value).removeprefix("-"))
        raise DataError(f"{column} is a number of {digits} digits, which is too large") from None
