"""Rows of CSV and TSV files; the delimiter is detected in the header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from prefscope.data.records import LONGEST_ROW, BadRow, SourceRow
from prefscope.errors import DataError

_LONGEST_CELL = 2**31 - 1
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SEP_LINE = re.compile(r'"?sep=(.)"?\s*\Z')


@dataclass(frozen=True, slots=True)
class CellLayout:
    """How the cells of a file are separated."""

    delimiter: str
    named: bool = False
    """Whether a first line `sep=;`, as Excel writes it, names the delimiter."""
    spaced: bool = False
    """Whether a space follows every delimiter."""
    expected: str = ","
    """The delimiter that the file's suffix stands for."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on anything unusual, as sentences without a full stop."""
        found = []
        if self.delimiter != self.expected:
            found.append(f"read with {_DELIMITERS.get(self.delimiter, repr(self.delimiter))} as delimiters")
        if self.spaced:
            found.append("the space after each delimiter is ignored")
        return tuple(found)


def recognise_cells(head: str, expected: str) -> CellLayout:
    """Detect the layout of a file from its beginning, `head`.

    The delimiter is the one named by a `sep=…` line, or else the one that splits the header into the most columns.
    """
    lines = [line for line in head.splitlines() if line.strip()]
    first = lines[0] if lines else ""
    if named := _SEP_LINE.match(first):
        header = lines[1] if len(lines) > 1 else ""
        return CellLayout(named[1], named=True, spaced=_is_spaced(header, named[1]), expected=expected)
    order = [expected, *(one for one in _DELIMITERS if one != expected)]
    delimiter = max(order, key=lambda one: len(_cells(first, one)))
    return CellLayout(delimiter, spaced=_is_spaced(first, delimiter), expected=expected)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def _is_spaced(header: str, delimiter: str) -> bool:
    later = _cells(header, delimiter)[1:]
    return bool(later) and not delimiter.isspace() and all(cell.startswith(" ") for cell in later)


def read_cells(stream: BinaryIO, name: str, layout: CellLayout) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of a CSV or TSV stream.

    Raises:
        DataError: If there is no readable header.
    """
    csv.field_size_limit(_LONGEST_CELL)
    # Bytes that are not UTF-8 become lone surrogates, so that only their own row is bad.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(_lines(text, name), delimiter=layout.delimiter, strict=True, skipinitialspace=layout.spaced)
        if layout.named:
            next(reader)
        header = _header(reader, name)
        row = 0
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(row, line, f"the quoting is broken ({error})")
            else:
                if not "".join(cells).strip() and len(cells) < len(header):
                    continue
                yield _row_of_cells(row, line, header, cells)
            row += 1


def _lines(text: io.TextIOWrapper, name: str) -> Iterator[str]:
    """Yield the lines of a text.

    Raises:
        DataError: If a line is longer than `LONGEST_ROW`.
    """
    number = 0
    while line := text.readline(LONGEST_ROW + 1):
        number += 1
        if len(line) > LONGEST_ROW:
            raise DataError(f"the line is longer than {LONGEST_ROW:,} characters", where=f"{name}:{number}")
        yield line


def _header(reader: Iterator[list[str]], name: str) -> list[str]:
    try:
        header = [column.strip() for column in next(cells for cells in reader if cells)]
    except (StopIteration, csv.Error) as error:
        raise DataError("has no readable header line", where=name) from error
    if _not_utf8(header) is not None:
        raise DataError("the header line is not UTF-8", where=name, hint="Save the file as UTF-8.")
    refuse_repeated(header, name)
    return header


def refuse_repeated(columns: list[str], name: str) -> None:
    """Refuse a table in which two columns have the same name.

    Raises:
        DataError: If a column name is repeated.
    """
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise DataError(f"has two columns named '{twice[0]}'", where=name, hint="Rename one of them.")


def _row_of_cells(row: int, line: int, header: list[str], cells: list[str]) -> SourceRow | BadRow:
    if len(cells) != len(header):
        return BadRow(row, line, f"the number of cells differs from the header: {len(cells)} instead of {len(header)}")
    byte = _not_utf8(cells)
    if byte is not None:
        return BadRow(row, line, f"the row is not UTF-8{_as_cp1252(byte)}")
    return SourceRow(row, line, dict(zip(header, cells, strict=True)))


def _not_utf8(cells: list[str]) -> int | None:
    """Return the first byte that is not UTF-8, or None."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError as error:
        return ord(str(error.object)[error.start]) & 0xFF
    return None


def _as_cp1252(byte: int) -> str:
    """Describe a byte that is not UTF-8, with the character that it stands for in cp1252."""
    try:
        character = bytes([byte]).decode("cp1252")
    except UnicodeDecodeError:
        return f" (byte 0x{byte:02X})"
    advice = "save it as UTF-8, or convert it: iconv -f CP1252 -t UTF-8"
    return f" (byte 0x{byte:02X}, which is {character} in Windows' cp1252; {advice})"
