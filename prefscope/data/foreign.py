"""Recognise files that are not data sets by their first bytes, so that error messages can say what they are."""

from __future__ import annotations

import codecs
import re

from prefscope.errors import DataError

_EXPORT = "Export it as CSV, JSON lines or Parquet."
_UNPACK = "Unpack it and pass the files in it."
_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec/",
        "is a Git LFS pointer, not the data itself",
        "Fetch the file with `git lfs pull`.",
    ),
    (b"/annex/objects/", "is a git-annex pointer, not the data itself", "Fetch the file with `git annex get`."),
    (b"PK\x03\x04", "is a zip archive or an Excel workbook", "Unpack it, or export it as CSV."),
    (b"7z\xbc\xaf'\x1c", "is a 7z archive", _UNPACK),
    (b"Rar!", "is a rar archive", _UNPACK),
    (b"\x04\x22\x4d\x18", "is compressed with lz4, which is not supported", "Decompress it with `lz4 -d`."),
    (b"SQLite format 3\x00", "is an SQLite database", _EXPORT),
    (b"\x89HDF", "is an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "is a NumPy array", _EXPORT),
    (b"Obj\x01", "is an Avro file", _EXPORT),
    (b"ORC", "is an ORC file", _EXPORT),
    (b"%PDF", "is a PDF", "Pass the data set itself."),
    (b"\x80\x04", "is a Python pickle, which could run code", _EXPORT),
    (b"\x80\x05", "is a Python pickle, which could run code", _EXPORT),
)
_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html|\?xml)\b", re.IGNORECASE)
_UTF32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_TAR = slice(257, 262)
_SAMPLE = 4096


def refuse_foreign(head: bytes, name: str) -> None:
    """Refuse a file that is recognisably something other than a data set.

    Raises:
        DataError: If it is a Git LFS or annex pointer, a web page, an archive, a database or the like.
    """
    for beginning, what, hint in _BEGINNINGS:
        if head.startswith(beginning):
            raise DataError(what, where=name, hint=hint)
    text = head.removeprefix(codecs.BOM_UTF8)
    if _PAGE.match(text):
        what = "is XML" if b"<?xml" in text[:_SAMPLE].lower() and b"<html" not in text.lower() else "is an HTML page"
        hint = "A sign-in or error page may have been saved instead: download the data set again."
        raise DataError(f"{what}, not a data set", where=name, hint=hint)
    if head[_TAR] == b"ustar":
        raise DataError("is a tar archive", where=name, hint=_UNPACK)
    if head.startswith(_UTF32):
        raise DataError("is UTF-32 text", where=name, hint="Save it as UTF-8.")
    if head.startswith(_UTF16):
        raise DataError("is UTF-16 text", where=name, hint="Save it as UTF-8.")


def refuse_binary(head: bytes, name: str) -> None:
    """Refuse binary data and UTF-16 text.

    Raises:
        DataError: If the beginning contains NUL bytes.
    """
    sample = head[:_SAMPLE]
    if b"\0" in sample:
        halves = len(sample) // 2
        wide = max(sample[::2].count(0), sample[1::2].count(0)) > halves // 2
        what = "is UTF-16 text without a byte order mark" if wide else "is binary data, or text with NUL bytes"
        raise DataError(what, where=name, hint="Save it as UTF-8 text.")
