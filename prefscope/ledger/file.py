"""The ledger file: self-contained Parquet, with the run's manifest in its metadata.

It can be opened without models or torch. Nothing in it depends on beta or the losses.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from prefscope.errors import LedgerError, NewerLedgerError, ResourceError
from prefscope.ledger.checksums import MARKER, check_promise, seal
from prefscope.ledger.columns import ALTERNATIVE_IDS, STORED, TEXTS, TOKENS, Column
from prefscope.ledger.opened import LedgerFile, open_file
from prefscope.ledger.validation import KEPT, check_manifest, check_schema, read_manifest
from prefscope.private import keep_mode, make_file, make_folder, remove_leftovers

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT_VERSION = 1
ROW_GROUP_PAIRS = 500  # reading the text of one pair means reading its row group
ROW_GROUP_PAIRS_WITH_ALTERNATIVES = 100
"""With these, 500 pairs of 500 tokens take 0.2 s to read, and 100 pairs no longer than 500 without."""
METADATA_KEY = b"prefscope"
PARTIAL = "partial"
"""In the manifest of an unfinished run's ledger: the numbers of its scored and of all pairs."""
DIGEST_BYTES = 16
"""Size of the digests of sequences in a preview."""

ExtraKind = Literal["integer", "number", "boolean", "text", "json"]
"""Storage type of the data set's own columns; `json` is for nested or mixed values."""


_INT64 = range(-(2**63), 2**63)


def arrow_types() -> dict[str, pa.DataType]:
    """Return the Arrow type for each kind of column."""
    import pyarrow as pa

    return {
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
        "text": pa.string(),
        "json": pa.string(),
        "tokens": pa.list_(pa.string()),
        "digest": pa.binary(DIGEST_BYTES),
        "logps": pa.list_(pa.float32()),
        "halves": pa.list_(pa.float16()),
        "integers": pa.list_(pa.int32()),
    }


def build_schema(
    extra: Mapping[str, ExtraKind], manifest: Mapping[str, Any], *, tokens: bool, more: Sequence[Column] = ()
) -> pa.Schema:
    """Return the Arrow schema of a ledger.

    Args:
        extra: The data set's own columns by their names in the ledger, in order.
        manifest: Content for the metadata, in addition to the format version.
        tokens: Whether to include per-token columns.
        more: More columns, such as those of alternatives, of which the manifest then has the number.
    """
    import pyarrow as pa

    types = arrow_types()
    columns: tuple[Column, ...] = (*STORED, *TEXTS, *(TOKENS if tokens else ()), *more)
    fields = [pa.field(column.name, types[column.kind]) for column in columns]
    fields += [pa.field(name, types[kind]) for name, kind in extra.items()]
    content = {"format": FORMAT_VERSION, "extra_columns": dict(extra), **manifest}
    return pa.schema(fields, metadata={METADATA_KEY: json.dumps(content, ensure_ascii=False).encode()})


RUN_INDEX = "training.json"
"""The index of a run folder (run_folder.py)."""
STEP_NAME = re.compile(r"step-\d{7,}\.parquet")


def beside(ledger: Path, suffix: str) -> Path:
    """Return the path of a file beside a ledger that what users note about its pairs is kept in.

    Ledgers of the same pairs share it: a partial ledger and the complete one that it stands beside, and the steps of a
    run folder.

    >>> beside(Path("run.parquet"), ".marks.json").name, beside(Path("run.partial.parquet"), ".marks.json").name
    ('run.marks.json', 'run.marks.json')
    """
    own, index = ledger.with_suffix(""), ledger.with_name(RUN_INDEX)
    if STEP_NAME.fullmatch(ledger.name) and index.is_file():
        return index.with_suffix(suffix)
    return own.with_suffix(suffix) if own.suffix == f".{PARTIAL}" else ledger.with_suffix(suffix)


def part_path(path: Path) -> Path:
    """Return the path of the partial file to which this process writes a ledger."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def write_ledger(
    path: Path, schema: pa.Schema, groups: Iterable[Mapping[str, Sequence[Any]]], *, keep_complete: bool = False
) -> bool:
    """Write a ledger atomically, with one row group per mapping of columns; return whether it was written.

    Args:
        path: Path of the ledger.
        schema: Its columns and manifest.
        groups: Its row groups.
        keep_complete: Whether a file that is already there stays, unless it is a partial ledger.

    Raises:
        ResourceError: If the disk is full or the folder is not writable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    part = part_path(path)
    try:
        make_folder(path.parent)
        remove_leftovers(path)
        try:
            make_file(part)
            keep_mode(part, path)
            texts = [
                field.name for field in schema if field.type == pa.string()
            ]  # dictionary encoding does not make numbers smaller
            schema = schema.with_metadata({**(schema.metadata or {}), **MARKER})
            with pq.ParquetWriter(
                part, schema, compression="zstd", use_dictionary=texts, write_page_checksum=True
            ) as writer:
                has_alternatives = ALTERNATIVE_IDS in schema.names
                pairs = ROW_GROUP_PAIRS_WITH_ALTERNATIVES if has_alternatives else ROW_GROUP_PAIRS
                for columns in groups:
                    writer.write_table(pa.table(dict(columns), schema=schema), row_group_size=pairs)
            seal(part, schema.metadata[METADATA_KEY])
            with locked(path.parent):
                written = not keep_complete or is_replaceable(path)
                if written:
                    part.replace(path)
            return written
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"The ledger cannot be written ({error.strerror or error})",
            where=str(path),
            hint="Free disk space or choose another path with -o; log-probs that were computed are kept.",
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from replacing files of a folder, where the file system can lock folders."""
    with ExitStack() as opened:
        with suppress(OSError):  # a folder that may only be written to cannot be locked either
            descriptor = os.open(folder, os.O_RDONLY)
            opened.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def is_replaceable(path: Path) -> bool:
    """Return whether a partial ledger may be written to a path: nothing is there, or another partial ledger."""
    try:
        return PARTIAL in open_parquet(path)[1]
    except LedgerError:
        return not path.exists()


def open_parquet(path: Path) -> tuple[LedgerFile, dict[str, Any]]:
    """Open a ledger file and return it with its manifest, both validated.

    Raises:
        LedgerError: If the file does not exist, is not a ledger, is damaged, or was written by a newer version.
    """
    import pyarrow as pa

    try:
        source = pa.OSFile(str(path))
    except FileNotFoundError as error:
        raise LedgerError(
            "There is no such ledger", where=str(path), hint="Create one with prefscope score."
        ) from error
    except UnicodeEncodeError as error:
        raise LedgerError("A ledger's name must be valid UTF-8", where=str(path), hint="Rename the file.") from error
    except (OSError, pa.ArrowException) as error:
        if path.is_dir():
            hint = "Name a ledger; view and compare open the run folder of a training."
            raise LedgerError("This is a folder, not a ledger", where=str(path), hint=hint) from error
        raise LedgerError("This is not a complete Parquet file", where=str(path), hint="Create it again.") from error
    file = open_file(source, path)
    metadata = file.schema_arrow.metadata or {}
    check_promise(metadata, file.checksums, path)
    if METADATA_KEY not in metadata:
        raise LedgerError(
            "This Parquet file is not a prefscope ledger", where=str(path), hint="To score it: prefscope score FILE."
        )
    manifest = read_manifest(metadata[METADATA_KEY], path)
    if manifest["format"] > FORMAT_VERSION:
        raise NewerLedgerError(
            "This ledger was written by a newer prefscope", where=str(path), hint="Update prefscope."
        )
    check_manifest(manifest, get_args(ExtraKind), path)
    check_schema(file.schema_arrow, manifest, arrow_types(), path)
    file.check_sizes()
    own = frozenset(manifest["extra_columns"])
    file = replace(file, has_reference=manifest["has_reference"], alternatives=manifest.get(KEPT, 0), own=own)
    return file, manifest


def has_negative(file: LedgerFile, name: str) -> bool:
    """Return whether a numeric column has a negative value, using the row group statistics if there are any."""
    metadata = file.metadata
    paths = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    groups = (metadata.row_group(i).column(paths.index(name)).statistics for i in range(metadata.num_row_groups))
    minima: list[Any] = [one.min if one is not None and one.has_min_max else None for one in groups]
    if None not in minima:
        return any(least < 0 for least in minima)
    import pyarrow.compute as pc

    least = pc.min(file.read(columns=[name]).column(name)).as_py()
    return least is not None and bool(least < 0)


def widen(kind: ExtraKind | None, value: Any) -> ExtraKind | None:
    """Return the narrowest kind that stores a column's previous values and this one; None while all are None."""
    if value is None:
        return kind
    found: ExtraKind = "json"
    if isinstance(value, bool):
        found = "boolean"
    elif isinstance(value, int) and value in _INT64:
        found = "integer"
    elif isinstance(value, float):
        found = "number"
    elif isinstance(value, str):
        found = "text"
    if kind in (None, found):
        return found
    return "number" if {kind, found} == {"integer", "number"} else "json"


def store_as(kind: ExtraKind, value: Any) -> Any:
    """Convert a value to the form in which a column of that kind stores it."""
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False)
    return float(value) if kind == "number" else value
