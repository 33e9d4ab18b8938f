"""Checksums of a ledger file: of every column of every row group, of the footer, and of the manifest in it.

They are written between the last column and the footer, where Parquet leaves room: readers find everything by offset.

    columns … | a digest per column chunk | trailer | footer | length of the footer | PAR1

A digest covers the bytes of a column chunk as stored, page headers included, which Parquet's page checksums leave out.
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
"""Key of the file's metadata that promises checksums: a file that has lost them is damaged, not old."""
MARKER = {MARKER_KEY: b"1"}
_MAGIC, _PARQUET = b"PREFSUM1", b"PAR1"
_DIGEST_BYTES = 8
_TRAILER = struct.Struct("<4I8s8s")  # row groups, columns, the manifest's place in the footer; digests of these two
_END = struct.Struct("<8s8s")  # the digest of all checksums, and what they are recognised by
_TAIL = struct.Struct("<I4s")
_AGAIN = "Restore the file from a copy, or score the data set again: what was scored is kept."


@dataclass(frozen=True, slots=True)
class Checksums:
    """The digests of a ledger file's column chunks."""

    columns: int
    digests: bytes

    def check(self, file: pa.NativeFile, metadata: pq.FileMetaData, group: int, column: int) -> bool:
        """Return whether a column of a row group is as it was written."""
        at = _DIGEST_BYTES * (group * self.columns + column)
        start, size = _chunk(metadata, group, column)
        return _digest(file.read_at(size, start)) == self.digests[at : at + _DIGEST_BYTES]


def seal(path: Path, manifest: bytes) -> None:
    """Add checksums to a Parquet file that was just written.

    Args:
        path: The file.
        manifest: What its metadata has as the manifest.

    Raises:
        OSError: The file cannot be written.
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
    """Return the checksums of a file, whose footer is checked by them; None for a file without any.

    Args:
        file: The open file.
        path: Its path, for messages.

    Raises:
        DamagedLedgerError: The footer or the checksums are not as they were written.
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
    """Refuse a file that was written with checksums and has lost them.

    Raises:
        DamagedLedgerError: It has none.
    """
    if checksums is None and MARKER_KEY in metadata:
        raise damaged(path, "its checksums")


def damaged(path: Path, part: str) -> DamagedLedgerError:
    """Return the sentence for a ledger of which a part is damaged."""
    return DamagedLedgerError(f"This ledger is damaged in {part}", where=str(path), hint=_AGAIN)


def _chunk(metadata: Any, group: int, column: int) -> tuple[int, int]:
    """Return where a column of a row group begins in the file, and how many bytes it has."""
    chunk = metadata.row_group(group).column(column)
    start = chunk.data_page_offset
    if chunk.has_dictionary_page:
        start = min(start, chunk.dictionary_page_offset)
    return start, chunk.total_compressed_size


def _footer(stream: IO[bytes]) -> tuple[int, bytes]:
    """Return where the footer of a Parquet file begins, and the footer."""
    tail = stream.seek(-_TAIL.size, os.SEEK_END)
    length, _ = _TAIL.unpack(stream.read(_TAIL.size))
    return tail - length, _read(stream, tail - length, length)


def _read(stream: IO[bytes], start: int, size: int) -> bytes:
    stream.seek(start)
    return stream.read(size)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
