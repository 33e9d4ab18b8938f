"""Rows of JSON: one per line, the elements of an array, or the rows inside one object."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import count
from typing import BinaryIO, TypeAlias

from prefscope.data.dialects.turns import kind
from prefscope.data.json_tables import INNER_LISTS, ROW_COLUMNS, is_rows, rows_of_table
from prefscope.data.json_text import JsonText, Objects, repeated_key
from prefscope.data.records import DEEPEST_ROW, LONGEST_ROW, BadRow, Json, SourceRow
from prefscope.errors import DataError

Rows: TypeAlias = Iterator[SourceRow | BadRow]
_TOO_DEEP = f"the row is nested more than {DEEPEST_ROW} levels deep"
_TRAILING_COMMA = re.compile(r",\s*\Z")


def read_json_lines(stream: BinaryIO) -> Rows:
    """Yield the rows of JSON lines; a line that is not an object is a `BadRow`."""
    row = 0
    objects = Objects()
    for line, stored in enumerate(_lines(stream), start=1):
        text = stored.removeprefix(codecs.BOM_UTF8) if line == 1 else stored
        if text.strip():
            yield _row_of_line(row, line, text.rstrip(b"\r\n"), objects)
            row += 1


def _lines(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a stream, cutting those that are longer than `LONGEST_ROW`."""
    while stored := stream.readline(LONGEST_ROW + 1):
        rest = stored
        while len(rest) > LONGEST_ROW and not rest.endswith(b"\n"):
            rest = stream.readline(LONGEST_ROW + 1)
        yield stored


def _row_of_line(row: int, line: int, stored: bytes, objects: Objects) -> SourceRow | BadRow:
    if len(stored) > LONGEST_ROW:
        return BadRow(row, line, f"the line is longer than {LONGEST_ROW:,} bytes")
    try:
        value = objects.read(stored.decode())
    except UnicodeDecodeError as error:
        return BadRow(
            row, line, f"the line is not UTF-8 (byte 0x{stored[error.start]:02X} at column {error.start + 1})"
        )
    except json.JSONDecodeError as error:
        return BadRow(row, line, f"the line is not JSON ({_cause(error)} at column {error.colno})")
    except (ValueError, RecursionError) as error:
        return BadRow(row, line, f"the line is not readable JSON ({error})")
    return _row_of(row, line, value, objects.remarks)


def _cause(error: json.JSONDecodeError) -> str:
    if error.doc.startswith("{'"):
        return "it is a Python dictionary, in single quotes"
    at_bracket = error.doc[error.pos : error.pos + 1] in ("]", "}")
    if error.msg.startswith("Illegal trailing comma") or (
        at_bracket and _TRAILING_COMMA.search(error.doc[: error.pos])
    ):
        return "trailing comma before the closing bracket"
    return error.msg


def _row_of(row: int, line: int, value: Json, remarks: tuple[str, ...]) -> SourceRow | BadRow:
    if not isinstance(value, dict):
        return BadRow(row, line, f"the row is {kind(value)}, not an object")
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except RecursionError:
        return BadRow(row, line, _TOO_DEEP)
    except UnicodeEncodeError as error:  # JSON can escape half of a surrogate pair, which tokenizers reject
        code = ord(str(error.object)[error.start])
        return BadRow(row, line, f"the row contains half of a character, a lone surrogate (\\u{code:04x})")
    if text.count("[") + text.count("{") > DEEPEST_ROW and _depth(value) > DEEPEST_ROW:
        return BadRow(row, line, _TOO_DEEP)
    return SourceRow(row, line, value, remarks=remarks)


def _depth(value: Json) -> int:
    """Return how many levels of lists and objects are nested."""
    deepest, left = 0, [(value, 1)]
    while left:
        one, depth = left.pop()
        if isinstance(one, dict | list):
            deepest = max(deepest, depth)
            left += [(item, depth + 1) for item in (one.values() if isinstance(one, dict) else one)]
    return deepest


def read_json(stream: BinaryIO, name: str, split: str | None = None) -> Rows:
    """Yield the rows of a JSON array, of an object, or of several concatenated objects.

    Args:
        stream: The file.
        name: Its name, for messages.
        split: Which list of rows to read if an object contains several.

    Raises:
        DataError: If the JSON is invalid, or an object contains several lists of rows and `split` is None.
    """
    text = JsonText(stream, name)
    row = count()
    if text.peek() == "[":
        if split is not None:
            raise DataError(f"is an array without splits; there is no `{split}`", where=name, hint="Omit --split.")
        for line, value in text.elements():
            yield _row_of(next(row), line, value, text.remarks)
    while text.peek() == "{":
        yield from _rows_of_object(text, row, name, split)
    text.end()


def _rows_of_object(text: JsonText, row: Iterator[int], name: str, split: str | None) -> Rows:
    """Yield the rows of the list inside an object; an object without such a list is a row or a table."""
    begin = text.line
    others: dict[str, Json] = {}
    remarks: tuple[str, ...] = ()
    lists: list[str] = []
    for key in text.entries():
        if key in others:
            remarks += (repeated_key(key),)
        if text.peek() != "[" or key in INNER_LISTS or ROW_COLUMNS & others.keys():
            others[key] = text.value()
            remarks += text.remarks
            continue
        elements = text.elements()
        first = next(elements, None)
        if first is None or not is_rows([first[1]]):
            others[key] = [value for _, value in ([first] if first else [])] + [value for _, value in elements]
            continue
        lists.append(key)
        wanted = key == split or (split is None and len(lists) == 1)
        if wanted:
            yield _row_of(next(row), *first, text.remarks)
        for line, value in elements:
            if wanted:
                yield _row_of(next(row), line, value, text.remarks)
    _check_lists(lists, split, name)
    if not lists:
        for value in rows_of_table(others, name, split):
            yield _row_of(next(row), begin, value, remarks)


def _check_lists(lists: list[str], split: str | None, name: str) -> None:
    """Refuse several lists of rows if no split is named, and a split that does not exist."""
    named = ", ".join(f"`{one}`" for one in lists)
    if len(set(lists)) < len(lists):
        raise DataError(
            f"contains two lists of rows with the same name: {named}", where=name, hint="Rename one of them."
        )
    if split is None and len(lists) > 1:
        raise DataError(
            f"contains several lists of rows: {named}", where=name, hint=f"Name one with --split {lists[0]}."
        )
    if split is not None and lists and split not in lists:
        raise DataError(f"has no split `{split}`; its lists of rows: {named}", where=name)
