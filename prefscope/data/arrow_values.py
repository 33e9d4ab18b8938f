"""Convert Arrow values to JSON values. Binary text is decoded; values that are not text are never scored as text.

| Arrow | JSON |
|---|---|
| string, large and view variants, dictionaries of them | text |
| binary of any kind that is UTF-8 | text |
| other binary | `NotText`: Base64 |
| date, time, timestamp | `NotText`: ISO 8601 |
| decimal, duration, UUID and the rest | `NotText`: as Python prints it |
| map with distinct text keys | object; any other map: list of [key, value] |
| JSON (`arrow.json`) | the parsed value |
| struct, list | object, list, nulls included |
"""

from __future__ import annotations

import base64
import datetime as dt
import numbers
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from prefscope.data.arrow_json import Decode, json_decoders
from prefscope.data.records import LONGEST_ROW, BadRow, Json, NotText, SourceRow

if TYPE_CHECKING:
    import pyarrow as pa

UNDECODABLE = "binary data that is not UTF-8 text"


def rows_of_batch(batch: pa.RecordBatch, places: Iterator[int]) -> Iterator[SourceRow | BadRow]:
    """Yield the rows of a batch; a value that cannot be read makes only its own row a `BadRow`."""
    decoders = json_decoders(batch.schema)
    if batch.nbytes > LONGEST_ROW:
        yield from (_row_of_limited(batch.slice(i, 1), decoders, next(places)) for i in range(batch.num_rows))
        return
    try:
        values = [_decoded(value, decoders) for value in batch.to_pylist()]
    except (ValueError, OverflowError, RecursionError):  # text that is not UTF-8, timestamps that Python cannot hold
        for i in range(batch.num_rows):
            yield _row_alone(batch.slice(i, 1), decoders, next(places))
        return
    for value in values:
        place = next(places)
        yield SourceRow(place, place + 1, from_arrow_row(value))


def _decoded(value: dict[str, Json], decoders: Mapping[str, Decode]) -> dict[str, Json]:
    return {**value, **{name: decode(value[name]) for name, decode in decoders.items()}}


def _row_of_limited(batch: pa.RecordBatch, decoders: Mapping[str, Decode], place: int) -> SourceRow | BadRow:
    """Return the row of a one-row batch, or a `BadRow` if it is longer than `LONGEST_ROW`."""
    if batch.nbytes > LONGEST_ROW:
        return BadRow(place, place + 1, f"the row is longer than {LONGEST_ROW:,} bytes")
    return _row_alone(batch, decoders, place)


def _row_alone(batch: pa.RecordBatch, decoders: Mapping[str, Decode], place: int) -> SourceRow | BadRow:
    value: dict[str, Json] = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            value[name] = decoders.get(name, from_arrow)(column[0].as_py())
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            return BadRow(place, place + 1, f"`{name}` contains text that is not UTF-8 (byte 0x{byte:02X})")
        except (ValueError, OverflowError, RecursionError) as error:
            return BadRow(place, place + 1, f"`{name}` contains a value that cannot be read ({error})")
    return SourceRow(place, place + 1, from_arrow_row(value))


def from_arrow_row(value: dict[str, Json]) -> dict[str, Json]:
    """Return a row of Arrow values as JSON values."""
    return {name: from_arrow(found) for name, found in value.items()}


def from_arrow(found: object) -> Json:
    """Convert a Python value from Arrow's `as_py` to a JSON value."""
    if found is None or isinstance(found, str | bool | int | float):
        return found
    if isinstance(found, dict):
        return {str(key): from_arrow(item) for key, item in found.items()}
    if isinstance(found, list) and found and all(isinstance(item, tuple) and len(item) == 2 for item in found):  # noqa: PLR2004 (key and value)
        return _from_map(found)
    if isinstance(found, list | tuple):
        return [from_arrow(item) for item in found]
    if isinstance(found, bytes | bytearray | memoryview):
        return _from_bytes(bytes(found))
    return _from_other(found)


def _from_map(items: list[tuple[object, object]]) -> Json:
    pairs = [(from_arrow(key), from_arrow(item)) for key, item in items]
    keys = [key for key, _ in pairs]
    if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
        return dict(pairs)
    return [list(pair) for pair in pairs]


def _from_bytes(found: bytes) -> str:
    try:
        return found.decode()
    except UnicodeDecodeError:
        return NotText(base64.b64encode(found).decode("ascii"), UNDECODABLE)


def _from_other(found: object) -> Json:
    if isinstance(found, numbers.Integral):
        return int(found)
    if isinstance(found, numbers.Real):
        return float(found)
    if isinstance(found, dt.date | dt.time):
        kind = {dt.date: "a date", dt.time: "a time"}.get(type(found), "a timestamp")
        return NotText(found.isoformat(), kind)
    return NotText(str(found), "a decimal number" if isinstance(found, Decimal) else f"a {type(found).__name__}")
