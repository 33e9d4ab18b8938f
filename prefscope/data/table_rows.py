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
"""Metadata key of a Parquet file that identifies it as a prefscope ledger."""


def read_parquet(stream: BinaryIO, name: str) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of a Parquet file, with row numbers in place of lines.

    Raises:
        DataError: If it cannot be read, or is a prefscope ledger, whose texts are formatted for display.
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
    """Yield the rows of an Arrow file or stream, with row numbers in place of lines.

    Raises:
        DataError: If it cannot be read.
    """
    import pyarrow as pa

    row = count()
    try:
        for batch in _batches(stream):
            _check_schema(batch.schema, name)
            _check_memory(batch)
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


def _check_memory(batch: pa.RecordBatch) -> None:
    """Refuse a batch with offsets outside its buffers, which Arrow does not check by default.

    Raises:
        pyarrow.ArrowException: If an offset is invalid.
    """
    import pyarrow as pa

    for column in batch.columns:
        try:
            column.validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise
            # Text that is not UTF-8 only makes its own row bad; everything else must be valid.
            for array in (column.indices, column.dictionary) if pa.types.is_dictionary(column.type) else (column,):
                array.view(_with_bytes(array.type)).validate(full=True)


def _with_bytes(type_: pa.DataType) -> pa.DataType:
    """Replace string types in a type with binary types."""
    import pyarrow as pa

    kinds = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_with_bytes(field.type)) for field in type_])
    if pa.types.is_map(type_):
        return pa.map_(_with_bytes(type_.key_type), _with_bytes(type_.item_type))
    if pa.types.is_fixed_size_list(type_):
        return pa.list_(_with_bytes(type_.value_type), type_.list_size)
    if pa.types.is_list(type_):
        return pa.list_(_with_bytes(type_.value_type))
    if pa.types.is_large_list(type_):
        return pa.large_list(_with_bytes(type_.value_type))
    return kinds.get(type_, type_)


def _check_schema(schema: pa.Schema, name: str) -> None:
    refuse_repeated(schema.names, name)
    if LEDGER_KEY in (schema.metadata or {}):
        raise DataError(
            "is a prefscope ledger, not a data set: its texts are formatted for display",
            where=name,
            hint=f"Open it with `prefscope view {name}`, or write its data set to a file and score that: "
            f"`prefscope curate {name} -o data.jsonl`.",
        )


def _reason(error: Exception) -> str:
    return str(error).split("\n", 1)[0].rstrip(".")
