"""Rows of each file format, streamed, with the line where each begins."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import BinaryIO, TypeAlias

from prefscope.data.arrow_values import rows_of_batch
from prefscope.data.dialects.turns import kind
from prefscope.data.json_text import JsonText
from prefscope.data.records import BadRow, Json, SourceRow
from prefscope.errors import DataError

Rows: TypeAlias = Iterator[SourceRow | BadRow]

_BATCH_ROWS = 512
_LONGEST_CELL = 2**31 - 1


def _read_json_lines(stream: BinaryIO, _name: str) -> Rows:
    row = 0
    for line, stored in enumerate(stream, start=1):
        text = stored.removeprefix(codecs.BOM_UTF8) if line == 1 else stored
        if text.strip():
            yield _row_of_line(row, line, text.rstrip(b"\r\n"))
            row += 1


def _row_of_line(row: int, line: int, stored: bytes) -> SourceRow | BadRow:
    try:
        return _row_of(row, line, json.loads(stored.decode()))
    except UnicodeDecodeError as error:
        return BadRow(
            row, line, f"the line is not UTF-8 (byte 0x{stored[error.start]:02X} at column {error.start + 1})"
        )
    except json.JSONDecodeError as error:
        return BadRow(row, line, f"the line is not JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError) as error:
        return BadRow(row, line, f"the line is not JSON that can be read ({error})")


def _row_of(row: int, line: int, value: Json) -> SourceRow | BadRow:
    if not isinstance(value, dict):
        return BadRow(row, line, f"the row is {kind(value)}, not an object")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, and no tokenizer can take it
        code = ord(str(error.object)[error.start])
        return BadRow(row, line, f"the row holds half of a character (\\u{code:04x})")
    return SourceRow(row, line, value)


def is_rows(found: Json) -> bool:
    """Return whether a value is a list of rows: of objects that are no turns of a conversation."""
    first = found[0] if isinstance(found, list) and found else None
    return isinstance(first, dict) and not {"role", "from"} & first.keys()


def _read_json(stream: BinaryIO, name: str) -> Rows:
    text = JsonText(stream, name)
    row = count()
    if text.peek() == "[":
        for line, value in text.elements():
            yield _row_of(next(row), line, value)
    while text.peek() == "{":
        yield from _rows_of_object(text, row)
    text.end()


def _rows_of_object(text: JsonText, row: Iterator[int]) -> Rows:
    """Return the rows of the one list of rows in an object, or the object as a row where it holds no such list."""
    begin, wraps = text.line, False
    others: dict[str, Json] = {}
    for key in text.entries():
        if text.peek() != "[" or wraps:
            others[key] = text.value()
            continue
        elements = text.elements()
        first = next(elements, None)
        if first and is_rows([first[1]]):
            wraps = True
            yield _row_of(next(row), *first)
            for line, value in elements:
                yield _row_of(next(row), line, value)
        else:
            others[key] = [value for _, value in ([first] if first else [])] + [value for _, value in elements]
    if not wraps:
        yield SourceRow(next(row), begin, others)


def _read_cells(stream: BinaryIO, name: str, delimiter: str) -> Rows:
    csv.field_size_limit(_LONGEST_CELL)
    # Bytes that are not UTF-8 come through as lone surrogates, so that only their own row is bad.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
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


def _header(reader: Iterator[list[str]], name: str) -> list[str]:
    try:
        header = next(cells for cells in reader if cells)
    except (StopIteration, csv.Error) as error:
        raise DataError("has no header line that can be read", where=name) from error
    if not _is_utf8(header):
        raise DataError("is not UTF-8 in its header line", where=name, hint="Save it as UTF-8.")
    _refuse_repeated(header, name)
    return header


def _refuse_repeated(columns: list[str], name: str) -> None:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise DataError(f"has two columns named '{twice[0]}'", where=name, hint="Rename one of them.")


def _row_of_cells(row: int, line: int, header: list[str], cells: list[str]) -> SourceRow | BadRow:
    if len(cells) != len(header):
        return BadRow(row, line, f"the row has {len(cells)} cells where the header names {len(header)} columns")
    if not _is_utf8(cells):
        return BadRow(row, line, "the row is not UTF-8")
    return SourceRow(row, line, dict(zip(header, cells, strict=True)))


def _is_utf8(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(stream: BinaryIO, name: str) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = count()
    try:
        with pq.ParquetFile(stream) as file:
            _refuse_repeated(file.schema_arrow.names, name)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield from rows_of_batch(batch, row)
    except pa.ArrowException as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise DataError(f"cannot be read as Parquet: {reason}", where=name) from error


READERS: dict[str, Callable[[BinaryIO, str], Rows]] = {
    "jsonl": _read_json_lines,
    "json": _read_json,
    "csv": partial(_read_cells, delimiter=","),
    "tsv": partial(_read_cells, delimiter="\t"),
    "parquet": _read_parquet,
}
"""How to read each format: from an open binary stream and the name for messages."""
