"""Rows of Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING, BinaryIO

from prefscope.data.arrow_values import rows_of_batch
from prefscope.data.csv_rows import refuse_repeated
from prefscope.data.records import BadRow, SourceRow
from prefscope.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_ROWS = 512
LEDGER_KEY = b"prefscope"
"""What marks a ledger of ours in the metadata of a Parquet file."""


def read_parquet(stream: BinaryIO, name: str) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of a Parquet file; their lines are their numbers.

    Raises:
        DataError: It cannot be read, or is a ledger of ours, whose texts are those for people.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = count()
    try:
        with pq.ParquetFile(stream) as file:
            _check_schema(file.schema_arrow, name)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield from rows_of_batch(batch, row)
    except pa.ArrowException as error:
        raise DataError(f"cannot be read as Parquet: {_reason(error)}", where=name) from error


def read_arrow(stream: BinaryIO, name: str) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of an Arrow file or stream; their lines are their numbers.

    Raises:
        DataError: It cannot be read.
    """
    import pyarrow as pa

    row = count()
    try:
        for batch in _batches(stream):
            _check_schema(batch.schema, name)
            yield from (
                one
                for start in range(0, len(batch), _BATCH_ROWS)
                for one in rows_of_batch(batch.slice(start, _BATCH_ROWS), row)
            )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as Arrow: {_reason(error)}", where=name) from error


def _batches(stream: BinaryIO) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    try:
        file = pa.ipc.open_file(stream)
    except pa.ArrowInvalid:
        stream.seek(0)
        yield from pa.ipc.open_stream(stream)
    else:
        for number in range(file.num_record_batches):
            yield file.get_batch(number)


def _check_schema(schema: pa.Schema, name: str) -> None:
    refuse_repeated(schema.names, name)
    if LEDGER_KEY in (schema.metadata or {}):
        raise DataError(
            "is a ledger of prefscope, not a data set: its texts are those for people",
            where=name,
            hint=f"Open it with `prefscope view {name}`, or write its data set anew to score it: "
            f"`prefscope curate {name} -o data.jsonl`.",
        )


def _reason(error: Exception) -> str:
    return str(error).split("\n", 1)[0].rstrip(".")
