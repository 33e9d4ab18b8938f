"""Where rows come from: files of several formats, stdin, and data sets on the hub.

A source streams its rows, every time anew, with the place of each; what a row means is the dialects' matter.
"""

from __future__ import annotations

import codecs
import difflib
import gzip
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from prefscope.data.arrow_values import from_arrow_row
from prefscope.data.formats import READERS, Rows, is_rows
from prefscope.data.records import Json, SourceRow
from prefscope.errors import DataError, MissingExtraError, UsageError

_FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}
_KNOWN = f"Known formats: {', '.join(_FORMATS)}, each also with .gz."
_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HEAD_BYTES = 1 << 20


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
            yield from READERS[self.format](stream, self.name)

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
            yield SourceRow(row, row + 1, from_arrow_row(value))

    def content_hash(self) -> str:
        """Return the SHA-256 of id, split, configuration, revision and the data set's fingerprint."""
        # datasets offers its cache key under no public name.
        fingerprint = self.dataset._fingerprint  # noqa: SLF001
        return hashlib.sha256(json.dumps([*self.settings, fingerprint]).encode()).hexdigest()

    def close(self) -> None:
        """Do nothing: `datasets` keeps its own cache."""


def _open_hub(hub_id: str, split: str, config: str | None, revision: str | None) -> HubSource:
    try:
        from datasets import load_dataset
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
    lists = [found for found in value.values() if is_rows(found)] if isinstance(value, dict) else []
    return len(lists) == 1


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
