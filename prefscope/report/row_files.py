"""Write the rows of a data set as JSON lines, JSON, CSV, TSV or Parquet, by the suffix, in constant memory.

JSON preserves every row. CSV cells are text, and all rows of a Parquet file have the same columns and types, so a row
may become a different pair there.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from prefscope.data.compression import GZIP
from prefscope.data.files import FileSource
from prefscope.data.records import Json, SourceRow
from prefscope.errors import DataError
from prefscope.ledger.file import ROW_GROUP_PAIRS
from prefscope.report.files import UnixLines, text_file

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Row:
    """A source row from a ledger, with its position in the data set."""

    row: int
    line: int
    pair_id: str
    source: str
    """The row as JSON; may contain Python's NaN and Infinity, which are not valid JSON."""

    @property
    def place(self) -> str:
        """Where the row is, for messages."""
        return f"line {self.line}, pair {self.pair_id}"

    @property
    def value(self) -> dict[str, Json]:
        """The row's columns; non-finite numbers are None."""
        value: dict[str, Json] = json.loads(self.source, parse_constant=lambda _: None)
        return value

    @property
    def text(self) -> str:
        """The row as valid JSON."""
        if "NaN" in self.source or "Infinity" in self.source:
            return json.dumps(self.value, ensure_ascii=False)
        return self.source


def write_json_lines(stream: TextIO, rows: Iterable[Row]) -> None:
    """Write the rows as JSON lines."""
    stream.writelines(f"{row.text}\n" for row in rows)


def _write_json(stream: TextIO, rows: Iterable[Row]) -> None:
    opening = "[\n"
    for row in rows:
        stream.write(opening + row.text)
        opening = ",\n"
    stream.write("\n]\n")


def _write_cells(stream: TextIO, rows: Iterable[Row], delimiter: str) -> None:
    columns = dict.fromkeys(name for value in _values(rows) for name in value)
    writer = csv.writer(UnixLines(stream), delimiter=delimiter)
    writer.writerow(columns)
    writer.writerows([_cell(value.get(name)) for name in columns] for value in _values(rows))


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_TEXT_WRITERS: dict[str, Callable[[TextIO, Iterable[Row]], None]] = {
    ".jsonl": write_json_lines,
    ".json": _write_json,
    ".csv": partial(_write_cells, delimiter=","),
    ".tsv": partial(_write_cells, delimiter="\t"),
}
SUFFIXES = (*_TEXT_WRITERS, *(f"{suffix}.gz" for suffix in _TEXT_WRITERS), ".parquet")


def holds_every_row(suffix: str) -> bool:
    """Return whether a format preserves every row."""
    return suffix.startswith(".json")


def write_rows(path: Path, suffix: str, rows: Iterable[Row]) -> None:
    """Write rows in the format of a suffix; they are iterated several times.

    Raises:
        DataError: The format cannot hold the rows.
        OSError: The file cannot be written.
    """
    if suffix == ".parquet":
        _write_parquet(path, rows)
        return
    with text_file(path, packed=suffix.endswith(".gz")) as stream:
        _TEXT_WRITERS[suffix.removesuffix(".gz")](stream, rows)


def read_rows(path: Path, name: str, suffix: str) -> Iterator[Mapping[str, Json] | None]:
    """Yield the rows of a file in the format of a suffix, None for one that cannot be read.

    Raises:
        DataError: The rest of the file cannot be read.
    """
    source = FileSource(path, name, suffix.split(".")[1], GZIP if suffix.endswith(".gz") else None)
    for row in source.rows():
        yield row.value if isinstance(row, SourceRow) else None


def _write_parquet(path: Path, rows: Iterable[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schemas = [_table(part).schema for part in _parts(rows)]
        schema = pa.unify_schemas(schemas, promote_options="permissive")
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for part in _parts(rows):
                writer.write_table(_table(part, schema))
    except (pa.ArrowException, OverflowError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise DataError(f"Parquet cannot hold these rows ({reason})", hint="Write .jsonl.") from error


def _parts(rows: Iterable[Row]) -> Iterator[list[dict[str, Json]]]:
    """Yield the rows in groups."""
    values = _values(rows)
    while part := list(islice(values, ROW_GROUP_PAIRS)):
        yield part


def _values(rows: Iterable[Row]) -> Iterator[dict[str, Json]]:
    return (row.value for row in rows)


def _table(rows: Sequence[Mapping[str, Json]], schema: pa.Schema | None = None) -> pa.Table:
    """Return rows as a table, with the columns of a schema or all that occur."""
    import pyarrow as pa

    columns = dict.fromkeys(name for row in rows for name in row) if schema is None else schema.names
    return pa.table({name: [row.get(name) for row in rows] for name in columns}, schema=schema)
