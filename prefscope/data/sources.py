"""Sources of rows: files and folders of several formats, stdin, and data sets on the hub.

A source streams its rows with their positions, and can be read repeatedly. Dialects interpret the rows.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

from prefscope.data.compression import reading
from prefscope.data.files import FileSource, format_named, open_file
from prefscope.data.folders import folder_files, glob_files, is_glob, split_of
from prefscope.data.hub import HubSource, open_hub
from prefscope.data.records import BadRow, SourceRow
from prefscope.data.saved import Files
from prefscope.data.several import SeveralSources
from prefscope.errors import ResourceError, UsageError
from prefscope.settings import DataSettings

__all__ = ["FileSource", "HubSource", "SeveralSources", "Source", "open_data", "open_several", "open_source"]

_BLOCK_BYTES = 1 << 20
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Source(Protocol):
    """Rows that can be read several times."""

    @property
    def name(self) -> str:
        """Return the display name."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Return the user's files from which the rows are read."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return notes on anything unusual, as sentences without a full stop."""

    def rows(self) -> Iterator[SourceRow | BadRow]:
        """Yield the rows, starting at the first, in constant memory; a row that cannot be read is a `BadRow`.

        Raises:
            DataError: If the rest of the source cannot be read.
        """

    def content_hash(self) -> str:
        """Return 64 hex digits that change when the content does."""

    def close(self) -> None:
        """Delete temporary files."""


def open_data(settings: DataSettings) -> Source:
    """Open the source that the settings name; raises the errors of `open_several`."""
    names = (settings.source, *settings.more)
    return open_several(names, split=settings.split, config=settings.config, revision=settings.revision)


def open_several(
    names: Sequence[str], *, split: str | None = None, config: str | None = None, revision: str | None = None
) -> Source:
    """Open one source, or several as one.

    Raises:
        DataError: As in `open_source`.
        UsageError: If a file is named twice, or standard input is one of several sources.
    """
    if len(names) == 1:
        return open_source(names[0], split=split, config=config, revision=revision)
    if "-" in names:
        raise UsageError("Standard input cannot be one of several data files", hint="Save it to a file.")
    parts = [_open(name, split=split, config=config, revision=revision) for name in names]
    paths = [file.resolve() for part in parts for file in part.files]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise UsageError("A data file is named twice", where=str(twice), hint="Name each once.")
    splits = list(dict.fromkeys(found for name in names if (found := split_of(Path(Path(name).name)))))
    mixed = (f"files of several splits are read together: {', '.join(splits)}",) if len(splits) > 1 else ()
    return SeveralSources(f"{names[0]} and {len(names) - 1} more", tuple(parts), tuple(names), mixed)


def open_source(
    path_or_id: str, *, split: str | None = None, config: str | None = None, revision: str | None = None
) -> Source:
    """Open a file, a folder or a glob, stdin (`-`), or a data set on the hub (`owner/name`).

    Args:
        path_or_id: A path, a pattern, `-`, or a hub id; an existing path takes precedence over a hub id.
        split: The split of a folder, of a JSON object of splits, or of a hub data set (`train` by default).
        config: The configuration of a hub data set.
        revision: The commit, branch or tag of a hub data set.

    Raises:
        DataError: If there is no such file or data set, or its content does not match its name.
        MissingExtraError: If reading from the hub needs a package that is not installed.
        UsageError: If options of hub data sets are combined with a file.
    """
    return _open(path_or_id, split=split, config=config, revision=revision)


def _open(
    path_or_id: str, *, split: str | None, config: str | None, revision: str | None
) -> FileSource | HubSource | SeveralSources:
    path = Path(path_or_id)
    if path_or_id != "-" and not path.exists() and _HUB_ID.fullmatch(path_or_id) and not format_named(path):
        return open_hub(path_or_id, split or "train", config, revision)
    if config or revision:
        raise UsageError("a config or revision only applies to hub data sets", where=path_or_id)
    if path.is_dir():
        return _opened(folder_files(path, path_or_id, split))
    if path_or_id != "-" and not path.exists() and is_glob(path_or_id):
        return _opened(glob_files(path_or_id, split))
    if path_or_id == "-":
        return _spooled(sys.stdin.buffer, "stdin", split)
    if path.exists() and not path.is_file():
        with path.open("rb") as pipe:
            return _spooled(pipe, path_or_id, split)
    return open_file(path, path_or_id, split)


def _opened(files: Files) -> SeveralSources:
    """Open several files as one source."""
    parts = tuple(open_file(path, str(path)) for path in files.paths)
    return SeveralSources(files.name, parts, files.labels, files.remarks)


def _spooled(pipe: BinaryIO, name: str, split: str | None) -> FileSource:
    with _writing():
        handle, spool = tempfile.mkstemp(prefix="prefscope-")
    path = Path(spool)
    try:
        with _writing(), os.fdopen(handle, "wb") as stream:
            while block := _block(pipe, name):
                stream.write(block)
        source = replace(open_file(path, name, split), spooled=True)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    # Readers of the rows hold a reference to the source, so the file exists as long as it is being read.
    weakref.finalize(source, path.unlink, missing_ok=True)
    return source


def _block(pipe: BinaryIO, name: str) -> bytes:
    with reading(name, None):
        return pipe.read(_BLOCK_BYTES)


@contextmanager
def _writing() -> Iterator[None]:
    """Turn an error of the temporary folder into a `ResourceError`."""
    try:
        yield
    except OSError as error:
        raise ResourceError(
            f"Piped input cannot be written to a temporary file ({error.strerror or error})",
            where=str(error.filename or os.environ.get("TMPDIR", "the folder of temporary files")),
            hint="Free disk space, choose another folder with TMPDIR, or save the data to a file.",
        ) from error
