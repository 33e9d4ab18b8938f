"""Checksums of a ledger file: of every column chunk, of the footer, and of the manifest in the footer.

They are stored between the last column and the footer, which Parquet permits: readers find everything by offset.

    columns … | one digest per column chunk | trailer | footer | length of the footer | PAR1

A digest covers the stored bytes of a column chunk, including page headers, which Parquet's page checksums omit.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from prefscope.errors import DamagedLedgerError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MARKER_KEY = b"prefscope_checksums"
"""Metadata key that promises checksums, so that a file that lost them counts as damaged rather than old."""
MARKER = {MARKER_KEY: b"1"}
_MAGIC, _PARQUET = b"PREFSUM1", b"PAR1"
_DIGEST_BYTES = 8
_TRAILER = struct.Struct(
    "<4I8s8s"
)  # row groups, columns, offset and size of the manifest in the footer; digests of footer and manifest
_END = struct.Struct("<8s8s")  # digest of all checksums, magic bytes
_TAIL = struct.Struct("<I4s")
_AGAIN = "Restore the file from a copy, or score the data set again: log-probs in the cache are not recomputed."


@dataclass(frozen=True, slots=True)
class Checksums:
    """The digests of a ledger file's column chunks."""

    columns: int
    digests: bytes

    def check(self, file: pa.NativeFile, metadata: pq.FileMetaData, group: int, column: int) -> bool:
        """Return whether a column chunk is unchanged since it was written."""
        at = _DIGEST_BYTES * (group * self.columns + column)
        start, size = _chunk(metadata, group, column)
        return _digest(file.read_at(size, start)) == self.digests[at : at + _DIGEST_BYTES]


def seal(path: Path, manifest: bytes) -> None:
    """Add checksums to a newly written Parquet file.

    Args:
        path: The file.
        manifest: The manifest in its metadata.

    Raises:
        OSError: If the file cannot be written.
    """
    import pyarrow.parquet as pq

    with path.open("r+b") as stream:
        metadata = pq.read_metadata(path)
        start, footer = _footer(stream)
        digests = b"".join(
            _digest(_read(stream, *_chunk(metadata, group, column)))
            for group in range(metadata.num_row_groups)
            for column in range(metadata.num_columns)
        )
        place = footer.index(manifest), len(manifest)
        shape = metadata.num_row_groups, metadata.num_columns
        sealed = digests + _TRAILER.pack(*shape, *place, _digest(footer), _digest(manifest))
        stream.seek(start)
        stream.write(sealed + _END.pack(_digest(sealed), _MAGIC) + footer + _TAIL.pack(len(footer), _PARQUET))


def read_checksums(file: pa.NativeFile, path: Path) -> Checksums | None:
    """Read the checksums of a file and verify its footer; return None if the file has none.

    Args:
        file: The open file.
        path: Its path, for messages.

    Raises:
        DamagedLedgerError: If the footer or the checksums are damaged.
    """
    size = file.size()
    length, magic = _TAIL.unpack(file.read_at(_TAIL.size, size - _TAIL.size)) if size > _TAIL.size else (0, b"")
    end = size - _TAIL.size - length
    if magic != _PARQUET or end < _TRAILER.size + _END.size:
        return None
    own, found = _END.unpack(file.read_at(_END.size, end - _END.size))
    if found != _MAGIC:
        return None
    trailer = file.read_at(_TRAILER.size, end - _END.size - _TRAILER.size)
    groups, columns, at, manifest_size, of_footer, of_manifest = _TRAILER.unpack(trailer)
    begin = end - _END.size - _TRAILER.size - _DIGEST_BYTES * groups * columns
    sealed = file.read_at(end - _END.size - begin, begin) if begin >= 0 else b""
    if _digest(sealed) != own:
        raise damaged(path, "its checksums")
    footer = file.read_at(length, end)
    if _digest(footer) != of_footer:
        whole_manifest = _digest(footer[at : at + manifest_size]) == of_manifest
        raise damaged(path, "the footer" if whole_manifest else "the manifest in the footer")
    return Checksums(columns, sealed[: -_TRAILER.size])


def check_promise(metadata: Mapping[bytes, bytes], checksums: Checksums | None, path: Path) -> None:
    """Refuse a file that was written with checksums but no longer has them.

    Raises:
        DamagedLedgerError: If they are missing.
    """
    if checksums is None and MARKER_KEY in metadata:
        raise damaged(path, "its checksums")


def damaged(path: Path, part: str) -> DamagedLedgerError:
    """Return the error for a ledger with a damaged part."""
    return DamagedLedgerError(f"This ledger is damaged in {part}", where=str(path), hint=_AGAIN)


def _chunk(metadata: Any, group: int, column: int) -> tuple[int, int]:
    """Return the offset and the size in bytes of a column chunk."""
    chunk = metadata.row_group(group).column(column)
    start = chunk.data_page_offset
    if chunk.has_dictionary_page:
        start = min(start, chunk.dictionary_page_offset)
    return start, chunk.total_compressed_size


def _footer(stream: IO[bytes]) -> tuple[int, bytes]:
    """Return the footer of a Parquet file, and its offset."""
    tail = stream.seek(-_TAIL.size, os.SEEK_END)
    length, _ = _TAIL.unpack(stream.read(_TAIL.size))
    return tail - length, _read(stream, tail - length, length)


def _read(stream: IO[bytes], start: int, size: int) -> bytes:
    stream.seek(start)
    return stream.read(size)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
