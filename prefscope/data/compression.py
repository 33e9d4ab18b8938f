"""Compressed files: recognised by their first bytes, and read as streams."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from prefscope.errors import DataError


@dataclass(frozen=True, slots=True)
class Compression:
    """A compression format for whole files."""

    suffix: str
    name: str
    magic: bytes
    """The first bytes of a compressed file."""
    reader: Callable[[BinaryIO], object]
    ratio: int
    """Approximate compression ratio for the text of a data set."""


def _read_zstd(stored: BinaryIO) -> BinaryIO:
    import pyarrow as pa

    return cast("BinaryIO", io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(stored, mode="r"), "zstd")))


GZIP = Compression(".gz", "gzip", b"\x1f\x8b", gzip.open, 3)
BZIP2 = Compression(".bz2", "bzip2", b"BZh", bz2.open, 4)
XZ = Compression(".xz", "xz", b"\xfd7zXZ\x00", lzma.open, 4)
ZSTD = Compression(".zst", "zstd", b"\x28\xb5\x2f\xfd", _read_zstd, 3)
COMPRESSIONS = (GZIP, BZIP2, XZ, ZSTD)
LONGEST_MAGIC = max(len(one.magic) for one in COMPRESSIONS)


def compression_named(path: Path) -> Compression | None:
    """Return the compression that a file's suffix stands for, or None."""
    suffix = path.suffix.lower()
    return next((one for one in COMPRESSIONS if one.suffix == suffix), None)


def compression_of(path: Path) -> Compression | None:
    """Return the compression of a file, detected by its first bytes, or None."""
    with path.open("rb") as stream:
        head = stream.read(LONGEST_MAGIC)
    return next((one for one in COMPRESSIONS if head.startswith(one.magic)), None)


@contextmanager
def opened(path: Path, compression: Compression | None) -> Iterator[BinaryIO]:
    """Open a file for reading its decompressed content."""
    with path.open("rb") as stored:
        if compression is None:
            yield stored
            return
        stream = cast("BinaryIO", compression.reader(stored))
        with stream:
            yield stream


@contextmanager
def reading(name: str, compression: Compression | None) -> Iterator[None]:
    """Turn any error from reading a file into a `DataError`.

    Raises:
        DataError: If the file cannot be read, or its compressed data is damaged.
    """
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        # An OSError of a decompressor has no errno; one of the operating system does.
        if compression is not None and getattr(error, "errno", None) is None:
            raise DataError(
                f"the {compression.name} data is damaged or truncated", where=name, hint="Copy or download it again."
            ) from error
        raise DataError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=name) from error
