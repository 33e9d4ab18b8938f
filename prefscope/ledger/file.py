"""The ledger file: Parquet, self-contained, with the run's manifest in its metadata.

It opens anywhere with neither model nor torch. It holds nothing that depends on a knob.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefscope.errors import LedgerError, ResourceError
from prefscope.ledger.columns import STORED, TEXTS, TOKENS, Column

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

FORMAT_VERSION = 1
ROW_GROUP_PAIRS = 500  # one pair's text is read by reading its row group
METADATA_KEY = b"prefscope"

ExtraKind = str
"""How a data set's own column is stored: `integer`, `number`, `boolean`, `text`, or `json` for anything nested or mixed."""


def build_schema(extra: Mapping[str, ExtraKind], manifest: Mapping[str, Any], *, tokens: bool) -> pa.Schema:
    """Return the Arrow schema of a ledger.

    Args:
        extra: The data set's own columns by the name they are carried under, in order.
        manifest: What is written into the metadata beside the format version.
        tokens: Whether per-token columns are kept.
    """
    import pyarrow as pa  # noqa: PLC0415 (0.3 s, and a UI paints first)

    types = {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "json": pa.string(),
        "tokens": pa.list_(pa.string()),
        "logps": pa.list_(pa.float32()),
    }
    columns: tuple[Column, ...] = (*STORED, *TEXTS, *(TOKENS if tokens else ()))
    fields = [pa.field(column.name, types[column.kind]) for column in columns]
    fields += [pa.field(name, types[kind]) for name, kind in extra.items()]
    content = {"format": FORMAT_VERSION, "extra_columns": dict(extra), **manifest}
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(content, ensure_ascii=False).encode()})


def write_ledger(path: Path, schema: pa.Schema, groups: Iterable[Mapping[str, Sequence[Any]]]) -> None:
    """Write a ledger, a row group for every mapping of columns; the file appears only when it is whole.

    Raises:
        ResourceError: The disk is full or the folder cannot be written.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with pq.ParquetWriter(part, schema, compression="zstd") as writer:
                for columns in groups:
                    writer.write_table(pa.table(dict(columns), schema=schema), row_group_size=ROW_GROUP_PAIRS)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"The ledger cannot be written ({error.strerror or error})",
            where=str(path),
            hint="Free disk space or choose another place with -o; what was scored is kept and not scored again.",
        ) from error


def open_parquet(path: Path) -> tuple[pq.ParquetFile, dict[str, Any]]:
    """Return the open file and its manifest.

    Raises:
        LedgerError: The file is not there, is no ledger, or was written by a newer version.
    """
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise LedgerError("There is no such ledger", where=str(path), hint="Write one with prefscope score.") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise LedgerError("This is not a whole Parquet file", where=str(path), hint="Write it again.") from error
    metadata = file.schema_arrow.metadata or {}
    if METADATA_KEY not in metadata:
        raise LedgerError(
            "This Parquet file is no prefscope ledger", where=str(path), hint="To score it: prefscope score FILE."
        )
    manifest = json.loads(metadata[METADATA_KEY])
    if manifest["format"] > FORMAT_VERSION:
        raise LedgerError("This ledger was written by a newer prefscope", where=str(path), hint="Update prefscope.")
    return file, manifest
