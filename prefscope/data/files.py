"""A file as a source of rows. Format and compression are recognised by its name and its first bytes."""

from __future__ import annotations

import codecs
import difflib
import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from prefscope.data.compression import Compression, compression_named, compression_of, opened, reading
from prefscope.data.csv_rows import CellLayout, read_cells, recognise_cells
from prefscope.data.foreign import refuse_binary, refuse_foreign
from prefscope.data.json_rows import read_json, read_json_lines
from prefscope.data.json_tables import holds_rows
from prefscope.data.records import BadRow, Json, SourceRow
from prefscope.data.table_rows import read_arrow, read_parquet
from prefscope.errors import DataError, UsageError

_FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
_KNOWN = f"Known formats: {', '.join(_FORMATS)}, each also with .gz, .bz2, .xz or .zst."
_BEGINNINGS = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_BINARY = {"parquet": "Parquet", "arrow": "Arrow"}
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_HEAD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FileSource:
    """The rows of one file."""

    path: Path
    name: str
    format: str
    """`jsonl`, `json`, `csv`, `tsv`, `parquet` or `arrow`."""
    compression: Compression | None = None
    split: str | None = None
    """Which list of rows of a JSON object to read."""
    cells: CellLayout | None = None
    """Cell layout of `csv` and `tsv`."""
    spooled: bool = False
    """Whether this is a temporary file with piped input."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, unless it is a temporary one."""
        return () if self.spooled else (self.path,)

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes on anything unusual about the file, as sentences without a full stop."""
        return () if self.cells is None else self.cells.remarks

    def rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows, starting at the first.

        Raises:
            DataError: If the rest of the file cannot be read.
        """
        with reading(self.name, self.compression), opened(self.path, self.compression) as stream:
            if self.format == "jsonl":
                yield from read_json_lines(stream)
            elif self.format == "json":
                yield from read_json(stream, self.name, self.split)
            elif self.format == "parquet":
                yield from read_parquet(self._whole(stream), self.name)
            elif self.format == "arrow":
                yield from read_arrow(self._whole(stream), self.name)
            else:
                delimiter = _DELIMITERS[self.format]
                yield from read_cells(stream, self.name, self.cells or CellLayout(delimiter, expected=delimiter))

    def _whole(self, stream: BinaryIO) -> BinaryIO:
        """Return a seekable stream."""
        return stream if self.compression is None else io.BytesIO(stream.read())

    def content_hash(self) -> str:
        """Return the SHA-256 of the file as it is stored."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def close(self) -> None:
        """Delete the file if it is temporary."""
        if self.spooled:
            self.path.unlink(missing_ok=True)


def open_file(path: Path, name: str, split: str | None = None) -> FileSource:
    """Open a file as a source of rows.

    Raises:
        DataError: If the file does not exist, or its content does not match its name.
        UsageError: If a split is named, but the format has none.
    """
    if not path.exists():
        raise DataError("there is no such file", where=name, hint=_nearest(path))
    compression = None
    with reading(name, None):
        compression = compression_of(path)
    with reading(name, compression):
        source = _recognised(path, name, compression, split)
    if split is not None and source.format != "json":
        raise UsageError(
            "a split only applies to hub data sets, folders and JSON objects of splits",
            where=name,
            hint="Omit --split: this file has no splits.",
        )
    return source


def format_named(path: Path) -> str:
    """Return the format that a file's suffix stands for, or ""."""
    inner = path.with_suffix("") if compression_named(path) is not None else path
    return _FORMATS.get(inner.suffix.lower(), "")


def _recognised(path: Path, name: str, compression: Compression | None, split: str | None) -> FileSource:
    named = format_named(path)
    _check_compression(path, name, compression, named)
    with opened(path, compression) as stream:
        head = stream.read(_HEAD_BYTES)
    refuse_foreign(head, name)
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        raise DataError("is empty", where=name, hint="A data set needs at least one row.")
    found = _sniffed(head)
    for kind, title in _BINARY.items():
        if named and (named == kind) != (found == kind):
            what = f"is {title}" if found == kind else f"is not {title}"
            raise DataError(f"{what}, though its name ends with {path.suffix}", where=name, hint=_KNOWN)
    if found not in _BINARY:
        refuse_binary(head, name)
    format_ = _decided(named, found, head, name)
    cells = None
    if format_ in _DELIMITERS:
        cells = recognise_cells(head.decode("utf-8-sig", "replace"), _DELIMITERS[format_])
    return FileSource(path, name, format_, compression, split, cells)


def _check_compression(path: Path, name: str, found: Compression | None, named_format: str) -> None:
    """Refuse a file whose suffix does not match its compression."""
    named = compression_named(path)
    if named is not None and found is not named:
        raise DataError(
            f"is not {named.name}, though its name ends with {named.suffix}",
            where=name,
            hint=f"Rename it to {found.suffix}." if found else f"Remove {named.suffix} from its name.",
        )
    if named is None and found is not None and named_format:
        raise DataError(
            f"is {found.name}, though its name does not say so", where=name, hint=f"Add {found.suffix} to its name."
        )


def _decided(named: str, found: str, head: bytes, name: str) -> str:
    """Return the format of a file, judged by its name and its first bytes."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if named == "jsonl" and found == "json":
        if text.startswith(b"["):
            raise DataError("is a JSON array, not JSON lines", where=name, hint="Rename it to .json.")
        return "json" if _begins_with_object_over_lines(text) else named
    if named == "json" and found == "jsonl":
        return "jsonl"
    if not (named or found):
        raise DataError("is not in a known format", where=name, hint=_KNOWN)
    return named or found


def _sniffed(head: bytes) -> str:
    """Detect the format of a file from its first bytes; "" if unknown."""
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    first, _, rest = text.partition(b"\n")
    first = first.rstrip()
    if text.startswith(b"["):
        return "jsonl" if rest.strip() and first.endswith(b"]") and _parsed(first) is not None else "json"
    if text.startswith(b"{"):
        lines = first.endswith(b"}") and (rest.strip() or not holds_rows(_parsed(first)))
        return "jsonl" if lines else "json"
    if first.startswith((b"sep=", b'"sep=')):
        return "csv"
    marks = ((b"\t", "tsv"), (b",", "csv"), (b";", "csv"), (b"|", "csv"))
    return next((name for mark, name in marks if mark in first), "")


def _begins_with_object_over_lines(text: bytes) -> bool:
    """Return whether the first object spans several lines or contains all rows."""
    first, _, rest = text.partition(b"\n")
    if not rest.strip():
        return holds_rows(_parsed(first))
    if first.strip() == b"{":
        return True
    decoded = text.decode("utf-8", "replace")
    try:
        _, end = json.JSONDecoder().raw_decode(decoded)
    except (ValueError, RecursionError):
        return False
    return "\n" in decoded[:end]


def _parsed(text: bytes) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _nearest(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.with_name(near[0])}?" if near else "Check the path."
