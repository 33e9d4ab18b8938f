"""Where rows come from: files of several formats, stdin, and data sets on the hub.

A source streams its rows, every time anew, with the place of each; what a row means is the dialects' matter.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import BinaryIO, Protocol, TypeAlias, cast

from prefscope.data.dialects.turns import kind
from prefscope.data.records import BadRow, Json, SourceRow
from prefscope.errors import DataError, MissingExtraError, UsageError

Rows: TypeAlias = Iterator[SourceRow | BadRow]

_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_KNOWN = f"Known formats: {', '.join(_FORMATS)}, each also with .gz."
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HEAD_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_BATCH_ROWS = 512
_LONGEST_CELL = 2**31 - 1
_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\r\n]*")
_LONGEST_LITERAL = 16
"""A JSON error nearer than this to the end of the text read so far may be a literal that was cut in two."""


class Source(Protocol):
    """Rows that can be read several times."""

    @property
    def name(self) -> str:
        """Return the name for people."""

    def rows(self) -> Rows:
        """Return the rows from the first one on, in constant memory; a row that cannot be read is a `BadRow`.

        Raises:
            DataError: If what follows cannot be read at all.
        """

    def content_hash(self) -> str:
        """Return 64 hex digits that change when the content does."""

    def close(self) -> None:
        """Delete what was kept for reading several times."""


def open_source(
    path_or_id: str, *, split: str | None = None, config: str | None = None, revision: str | None = None
) -> Source:
    """Return the rows of a file, of stdin (`-`), or of a data set on the hub (`owner/name`).

    Args:
        path_or_id: A path, `-`, or a hub id; a path that exists goes before a hub id.
        split: The split of a hub data set, `train` if not given.
        config: The configuration of a hub data set.
        revision: The commit, branch or tag of a hub data set.

    Raises:
        DataError: If there is no such file or data set, or it is not what its name says.
        MissingExtraError: If reading from the hub needs a package that is not installed.
        UsageError: If options of hub data sets stand beside a file.
    """
    path = Path(path_or_id)
    if path_or_id != "-" and not path.exists() and _HUB_ID.fullmatch(path_or_id) and not _suffixes(path)[0]:
        return _open_hub(path_or_id, split or "train", config, revision)
    if split or config or revision:
        raise UsageError("a split, config or revision is for hub data sets", where=path_or_id)
    if path_or_id == "-":
        return _spooled(sys.stdin.buffer, "stdin")
    if path.exists() and not path.is_file() and not path.is_dir():
        with path.open("rb") as pipe:
            return _spooled(pipe, path_or_id)
    return _open_file(path, path_or_id)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FileSource:
    """The rows of one file."""

    path: Path
    name: str
    format: str
    """`jsonl`, `json`, `csv`, `tsv` or `parquet`."""
    gzipped: bool
    spooled: bool = False
    """Whether the file is a temporary one that holds what came through a pipe."""

    def rows(self) -> Rows:
        """Return the rows from the first one on.

        Raises:
            DataError: If what follows cannot be read at all.
        """
        with _told(self.name), _opened(self.path, gzipped=self.gzipped) as stream:
            yield from _READERS[self.format](stream, self.name)

    def content_hash(self) -> str:
        """Return the SHA-256 of the file as it is stored."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    def close(self) -> None:
        """Delete a temporary file; the user's own stays."""
        if self.spooled:
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class HubSource:
    """The rows of one split of a data set on the hub."""

    name: str
    dataset: Json
    """The `datasets.Dataset`."""
    settings: tuple[str | None, ...]

    def rows(self) -> Rows:
        """Return the rows from the first one on; a row's line is its number."""
        for row, value in enumerate(self.dataset):
            yield SourceRow(row, row + 1, _from_arrow_row(value))

    def content_hash(self) -> str:
        """Return the SHA-256 of id, split, configuration, revision and the data set's fingerprint."""
        # datasets offers its cache key under no public name.
        fingerprint = self.dataset._fingerprint  # noqa: SLF001
        return hashlib.sha256(json.dumps([*self.settings, fingerprint]).encode()).hexdigest()

    def close(self) -> None:
        """Do nothing: `datasets` keeps its own cache."""


def _open_hub(hub_id: str, split: str, config: str | None, revision: str | None) -> HubSource:
    try:
        from datasets import load_dataset  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("reading a data set from the hub", "hub") from error
    try:
        dataset = load_dataset(hub_id, config, split=split, revision=revision)
    except Exception as error:  # datasets, huggingface_hub and the network raise without a common base
        reason = str(error).strip().split("\n", 1)[0].rstrip(".") or type(error).__name__
        hint = "Check the id, the configuration, the split and the network; no file of that name is here."
        raise DataError(f"cannot be loaded from the hub: {reason}", where=hub_id, hint=hint) from error
    return HubSource(f"{hub_id} ({split})", dataset, (hub_id, split, config, revision))


def _spooled(pipe: BinaryIO, name: str) -> FileSource:
    handle, spool = tempfile.mkstemp(prefix="prefscope-")
    path = Path(spool)
    try:
        with _told(name), os.fdopen(handle, "wb") as stream:
            shutil.copyfileobj(pipe, stream)
        source = replace(_open_file(path, name), spooled=True)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    # Whoever reads the rows holds the source, so the file lives as long as it is read.
    weakref.finalize(source, path.unlink, missing_ok=True)
    return source


def _open_file(path: Path, name: str) -> FileSource:
    if not path.exists():
        raise DataError("there is no such file", where=name, hint=_nearest(path))
    if path.is_dir():
        raise DataError("is a folder, not a file", where=name, hint="Name a file in it.")
    with _told(name):
        return _recognised(path, name)


def _recognised(path: Path, name: str) -> FileSource:
    named, named_gzip = _suffixes(path)
    with path.open("rb") as stream:
        gzipped = stream.read(2) == _GZIP
    if named_gzip and not gzipped:
        raise DataError("is not gzip, though its name ends with .gz", where=name, hint="Take .gz off its name.")
    if named and gzipped and not named_gzip:
        raise DataError("is gzip, though its name does not say so", where=name, hint="Add .gz to its name.")
    with _opened(path, gzipped=gzipped) as stream:
        head = stream.read(_HEAD_BYTES)
    if not head.removeprefix(codecs.BOM_UTF8).strip():
        raise DataError("is empty", where=name, hint="A data set has one row or more.")
    if head.startswith(_UTF16):
        raise DataError("is UTF-16 text", where=name, hint="Save it as UTF-8.")
    found = _sniffed(head)
    if named and (named == "parquet") != (found == "parquet"):
        what = "is Parquet" if found == "parquet" else "is not Parquet"
        raise DataError(f"{what}, though its name ends with {''.join(path.suffixes[-1:])}", where=name, hint=_KNOWN)
    if named == "jsonl" and found == "json" and head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
        raise DataError("is a JSON array, not JSON lines", where=name, hint="Name it .json.")
    if named == "json" and found == "jsonl":
        named = "jsonl"
    if not (named or found):
        raise DataError("is in no format that is known", where=name, hint=_KNOWN)
    return FileSource(path, name, named or found, gzipped)


def _suffixes(path: Path) -> tuple[str, bool]:
    """Return the format that a file's name tells, or "", and whether it tells gzip."""
    gzipped = path.suffix.lower() == ".gz"
    suffix = path.with_suffix("").suffix if gzipped else path.suffix
    return _FORMATS.get(suffix.lower(), ""), gzipped


def _sniffed(head: bytes) -> str:
    """Return the format of a file that begins with `head`, or ""."""
    if head.startswith(_PARQUET):
        return "parquet"
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    first, _, rest = text.partition(b"\n")
    first = first.rstrip()
    if text.startswith(b"["):
        return "jsonl" if rest.strip() and first.endswith(b"]") and _parsed(first) is not None else "json"
    if text.startswith(b"{"):
        lines = first.endswith(b"}") and (rest.strip() or not _wraps_rows(_parsed(first)))
        return "jsonl" if lines else "json"
    return next((name for mark, name in ((b"\t", "tsv"), (b",", "csv")) if mark in first), "")


def _parsed(text: bytes) -> Json:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _wraps_rows(value: Json) -> bool:
    lists = [found for found in value.values() if _is_rows(found)] if isinstance(value, dict) else []
    return len(lists) == 1


def _is_rows(found: Json) -> bool:
    """Return whether a value is a list of rows: of objects that are no turns of a conversation."""
    first = found[0] if isinstance(found, list) and found else None
    return isinstance(first, dict) and not {"role", "from"} & first.keys()


def _nearest(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"Did you mean {path.with_name(near[0])}?" if near else "Check the path."


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError("the gzip data is damaged or cut off", where=name) from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=name) from error


@contextmanager
def _opened(path: Path, *, gzipped: bool) -> Iterator[BinaryIO]:
    with path.open("rb") as stored:
        if not gzipped:
            yield stored
            return
        with gzip.open(stored) as stream:
            yield cast("BinaryIO", stream)


def _read_json_lines(stream: BinaryIO, _name: str) -> Rows:
    row = 0
    for line, stored in enumerate(stream, start=1):
        text = stored.removeprefix(codecs.BOM_UTF8) if line == 1 else stored
        if text.strip():
            yield _row_of_line(row, line, text.rstrip(b"\r\n"))
            row += 1


def _row_of_line(row: int, line: int, stored: bytes) -> SourceRow | BadRow:
    try:
        return _row_of(row, line, json.loads(stored.decode()))
    except UnicodeDecodeError as error:
        return BadRow(
            row, line, f"the line is not UTF-8 (byte 0x{stored[error.start]:02X} at column {error.start + 1})"
        )
    except json.JSONDecodeError as error:
        return BadRow(row, line, f"the line is not JSON ({error.msg} at column {error.colno})")
    except (ValueError, RecursionError) as error:
        return BadRow(row, line, f"the line is not JSON that can be read ({error})")


def _row_of(row: int, line: int, value: Json) -> SourceRow | BadRow:
    if isinstance(value, dict):
        return SourceRow(row, line, value)
    return BadRow(row, line, f"the row is {kind(value)}, not an object")


class _JsonText:
    """JSON text that grows while it is read, and the line of what comes next."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text = ""
        self._at = 0
        self.line = 1

    def peek(self) -> str:
        """Return the next character that is not white space, or "" at the end."""
        while True:
            self._skip_to(_SPACE.match(self._text, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, mark: str) -> None:
        """Go past a mark, which must come next."""
        if self.peek() != mark:
            raise self._broken(f"expecting '{mark}'" if self.peek() else "it ends too early", self._at)
        self._skip_to(self._at + 1)

    def value(self) -> Json:
        """Go past a value and return it."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _LONGEST_LITERAL
                if not (cut and self._grow()):
                    raise self._broken(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self._broken(str(error), self._at) from error
            else:
                # A number that ends with the text read so far may go on.
                if end < len(self._text) or not self._grow():
                    self._skip_to(end)
                    return value

    def items(self, opening: str, closing: str) -> Iterator[int]:
        """Go through an array or an object: return the line of each item, which the caller takes."""
        self.take(opening)
        if self.peek() != closing:
            yield self.line
            while self.peek() == ",":
                self.take(",")
                self.peek()
                yield self.line
        self.take(closing)

    def elements(self) -> Iterator[tuple[int, Json]]:
        """Go through an array: return each element with its line."""
        for line in self.items("[", "]"):
            yield line, self.value()

    def entries(self) -> Iterator[str]:
        """Go through an object: return each key; the caller takes its value."""
        for _ in self.items("{", "}"):
            key = self.value()
            self.take(":")
            yield str(key)

    def end(self) -> None:
        """Check that nothing comes next."""
        if self.peek():
            raise self._broken("it goes on after its end", self._at)

    def _skip_to(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _grow(self) -> bool:
        """Read on, dropping what was gone past; return whether there was more."""
        kept = self._text[self._at :]
        more = ""
        while not more:
            # Doubling keeps a very long element from being decoded anew for every chunk of it.
            stored = self._stream.read(max(_CHUNK_BYTES, len(kept)))
            try:
                more = self._decoder.decode(stored, final=not stored)
            except UnicodeDecodeError as error:
                line = self.line + kept.count("\n") + error.object.count(b"\n", 0, error.start)
                raise DataError("is not UTF-8 here", where=f"{self._name}:{line}") from error
            if not stored:
                break
        if more:
            self._text, self._at = kept + more, 0
        return bool(more)

    def _broken(self, what: str, at: int) -> DataError:
        line = self.line + self._text.count("\n", self._at, at)
        return DataError(f"the JSON is broken: {what}", where=f"{self._name}:{line}")


def _read_json(stream: BinaryIO, name: str) -> Rows:
    text = _JsonText(stream, name)
    row = count()
    if text.peek() == "[":
        for line, value in text.elements():
            yield _row_of(next(row), line, value)
    while text.peek() == "{":
        yield from _rows_of_object(text, row)
    text.end()


def _rows_of_object(text: _JsonText, row: Iterator[int]) -> Rows:
    """Return the rows of the one list of rows in an object, or the object as a row where it holds no such list."""
    begin, wraps = text.line, False
    others: dict[str, Json] = {}
    for key in text.entries():
        if text.peek() != "[" or wraps:
            others[key] = text.value()
            continue
        elements = text.elements()
        first = next(elements, None)
        if first and _is_rows([first[1]]):
            wraps = True
            yield _row_of(next(row), *first)
            for line, value in elements:
                yield _row_of(next(row), line, value)
        else:
            others[key] = [value for _, value in ([first] if first else [])] + [value for _, value in elements]
    if not wraps:
        yield SourceRow(next(row), begin, others)


def _read_cells(stream: BinaryIO, name: str, delimiter: str) -> Rows:
    csv.field_size_limit(_LONGEST_CELL)
    # Bytes that are not UTF-8 come through as lone surrogates, so that only their own row is bad.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        header = _header(reader, name)
        row = 0
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(row, line, f"the quoting is broken ({error})")
            else:
                if not "".join(cells).strip() and len(cells) < len(header):
                    continue
                yield _row_of_cells(row, line, header, cells)
            row += 1


def _header(reader: Iterator[list[str]], name: str) -> list[str]:
    try:
        header = next(cells for cells in reader if cells)
    except (StopIteration, csv.Error) as error:
        raise DataError("has no header line that can be read", where=name) from error
    if not _is_utf8(header):
        raise DataError("is not UTF-8 in its header line", where=name, hint="Save it as UTF-8.")
    twice = sorted({column for column in header if header.count(column) > 1})
    if twice:
        raise DataError(f"has two columns named '{twice[0]}'", where=name)
    return header


def _row_of_cells(row: int, line: int, header: list[str], cells: list[str]) -> SourceRow | BadRow:
    if len(cells) != len(header):
        return BadRow(row, line, f"the row has {len(cells)} cells where the header names {len(header)} columns")
    if not _is_utf8(cells):
        return BadRow(row, line, "the row is not UTF-8")
    return SourceRow(row, line, dict(zip(header, cells, strict=True)))


def _is_utf8(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_parquet(stream: BinaryIO, name: str) -> Rows:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    row = count()
    try:
        with pq.ParquetFile(stream) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for value in batch.to_pylist():
                    place = next(row)
                    yield SourceRow(place, place + 1, _from_arrow_row(value))
    except (pa.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise DataError(f"cannot be read as Parquet: {reason}", where=name) from error


def _from_arrow_row(value: dict[str, Json]) -> dict[str, Json]:
    return {name: _from_arrow(found) for name, found in value.items()}


def _from_arrow(found: object) -> Json:
    """Return a JSON value without the null keys that Arrow gives objects of one list to make them alike."""
    if isinstance(found, dict):
        return {key: _from_arrow(item) for key, item in found.items() if item is not None}
    if isinstance(found, list | tuple):
        return [_from_arrow(item) for item in found]
    return found if found is None or isinstance(found, str | int | float) else str(found)


_READERS: dict[str, Callable[[BinaryIO, str], Rows]] = {
    "jsonl": _read_json_lines,
    "json": _read_json,
    "csv": partial(_read_cells, delimiter=","),
    "tsv": partial(_read_cells, delimiter="\t"),
    "parquet": _read_parquet,
}
