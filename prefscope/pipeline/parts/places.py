"""Where parts are stored: a local or shared folder, or an object store (object_store.py).

Files are written atomically. Paths are relative, with slashes.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from prefscope.errors import ResourceError
from prefscope.private import FOLDER_MODE, make_folder, open_file

Fill = Callable[[IO[bytes]], object]
"""Writes the content of a file to a stream."""
_SECRETS = re.compile(r"((?:s3|gs|\w+(?=://)):/*).*@", re.IGNORECASE | re.DOTALL)
_OPTIONS = re.compile(r"(?<=[?&])(?!(?:region|scheme|endpoint_override|retry_limit_seconds)=)([^=&\s]*)=[^&\s'\"]*")


class Place(Protocol):
    """A folder of files, addressed by relative paths."""

    @property
    def is_sound(self) -> bool:
        """Whether every listed file is known to be intact, so that it need not be opened to check."""

    def shown(self, path: str = "") -> str:
        """Return the display name of a file, or of the place itself, without credentials."""

    def files(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder, relative to it and sorted; empty if there is no such folder."""

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading, seekable; a temporary copy, if any, is deleted when it is closed.

        Raises:
            FileNotFoundError: If the file does not exist.
        """

    def publish(self, path: str, content: bytes | memoryview) -> None:
        """Write a file atomically, replacing an existing one.

        Raises:
            ResourceError: If the file cannot be written.
        """

    def publish_together(self, folder: str, index: str, files: Mapping[str, Fill]) -> None:
        """Write all files of a folder, including an index that marks the folder as complete; an existing index is kept.

        Args:
            folder: The folder, which has no other files.
            index: Name of the index, one of the files.
            files: Functions that write the files, by name.

        Raises:
            ResourceError: If the files cannot be written.
        """

    def content_folder(self, index: str, content: bytes) -> str:
        """Return the folder of the files that were published with an index, from the index's path and content."""

    def delete(self, path: str) -> None:
        """Delete a file, if it exists."""


def without_secrets(text: str) -> str:
    """Mask the credentials of URLs in a text: everything before an @, and the values of unknown options.

    >>> without_secrets("cannot parse 's3://key:sec/ret@bucket/run?region=x&token=y'")
    "cannot parse 's3://…@bucket/run?region=x&token=…'"
    """
    return _OPTIONS.sub(r"\1=…", _SECRETS.sub(r"\1…@", text))


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder on this machine, or one that several machines share.

    A file is written under a temporary name, flushed to disk, and renamed.
    """

    path: Path

    @property
    def is_sound(self) -> bool:
        """Always false: after a crash, the end of a file may be missing."""
        return False

    def shown(self, path: str = "") -> str:
        """Return the path of a file, or of the folder."""
        return str(self.path / path)

    def files(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder, relative to it and sorted; empty if there is no such folder."""
        top = self.path / folder
        return sorted(one.relative_to(top).as_posix() for one in top.rglob("*") if one.is_file())

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading."""
        return (self.path / path).open("rb")

    def publish(self, path: str, content: bytes | memoryview) -> None:
        """Write a file under a temporary name and rename it; removes leftovers of killed writers."""
        final = self.path / path
        temporary = final.with_name(f".{final.name}.{_writer_name()}")
        try:
            make_folder(final.parent)
            try:
                _write(temporary, lambda stream: stream.write(content))
                temporary.replace(final)
            finally:
                _remove(final.parent.glob(f".{final.name}.*"))
        except OSError as error:
            if isinstance(error, FileNotFoundError) and final.exists():
                return  # another writer of the same content was faster, and removed this file as a leftover
            raise _refusal(final, error) from error

    def publish_together(self, folder: str, index: str, files: Mapping[str, Fill]) -> None:
        """Write files into a temporary folder, which is renamed when it is complete."""
        temporary = self.path / f".{folder}.{_writer_name()}"
        try:
            make_folder(temporary.parent)
            temporary.mkdir(mode=FOLDER_MODE)
            try:
                for name, fill in files.items():
                    _write(temporary / name, fill)
                temporary.rename(self.path / folder)  # fails if the folder exists: only one of two writers succeeds
            finally:
                for leftover in self.path.glob(f".{folder}.*"):
                    shutil.rmtree(leftover, ignore_errors=True)
        except OSError as error:
            if not (self.path / folder / index).exists():
                raise _refusal(self.path / folder, error) from error

    def content_folder(self, index: str, content: bytes) -> str:  # noqa: ARG002 (they have their own folder)
        """Return the folder of the index."""
        return index.rpartition("/")[0]

    def delete(self, path: str) -> None:
        """Delete a file, if it exists."""
        (self.path / path).unlink(missing_ok=True)


def _writer_name() -> str:
    """Return a suffix for the files that this process is writing, distinct from those of other processes."""
    return f"{socket.gethostname()}-{os.getpid()}.writing"


def _write(path: Path, fill: Fill) -> None:
    """Write a file and flush it to disk."""
    with open_file(path) as stream:
        fill(stream)
        stream.flush()
        os.fsync(stream.fileno())


def _remove(paths: Iterable[Path]) -> None:
    """Delete files, if they still exist."""
    for path in paths:
        path.unlink(missing_ok=True)


def _refusal(path: Path, error: OSError) -> ResourceError:
    """Return the error for a file that cannot be written."""
    return ResourceError(
        f"The folder of parts cannot be written ({error.strerror or error})",
        where=str(path),
        hint="Free disk space, or choose another folder with --parts. Log-probs computed so far are kept.",
    )
