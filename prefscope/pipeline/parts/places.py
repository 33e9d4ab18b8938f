"""Where the files of parts are: a folder of this machine, or an object store (object_store.py).

A file appears whole or not at all. Paths are relative, with slashes.
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
"""Writes a file's content."""
_SECRETS = re.compile(r"((?:s3|gs|\w+(?=://)):/*).*@", re.IGNORECASE | re.DOTALL)
_OPTIONS = re.compile(r"(?<=[?&])(?!(?:region|scheme|endpoint_override|retry_limit_seconds)=)([^=&\s]*)=[^&\s'\"]*")


class Place(Protocol):
    """Files by their paths."""

    @property
    def is_sound(self) -> bool:
        """Whether a file that is listed is known to be as it was written, so that it need not be looked into."""

    def shown(self, path: str = "") -> str:
        """Return how a file, or the place itself, is called in messages: without anything secret."""

    def files(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder, relative to it and sorted; none if it is not there."""

    def open(self, path: str) -> IO[bytes]:
        """Return a file to read at any position; what was fetched for it goes when it is closed.

        Raises:
            FileNotFoundError: It is not there.
        """

    def publish(self, path: str, content: bytes | memoryview) -> None:
        """Write a file, whole or not at all; one of that name is replaced.

        Raises:
            ResourceError: It cannot be written.
        """

    def publish_together(self, folder: str, index: str, files: Mapping[str, Fill]) -> None:
        """Write the files of a folder, of which one, the index, tells that all are there; if it is there, it stays.

        Args:
            folder: Theirs alone.
            index: The name of one of them.
            files: What writes each of them, by name.

        Raises:
            ResourceError: They cannot be written.
        """

    def beside(self, index: str, content: bytes) -> str:
        """Return the folder of the files that were published together with an index, given by its path and content."""

    def delete(self, path: str) -> None:
        """Delete a file, which may be gone by now."""


def without_secrets(text: str) -> str:
    """Return text with the credentials of its URLs left out: what is before an @, and unknown options.

    >>> without_secrets("cannot parse 's3://key:sec/ret@bucket/run?region=x&token=y'")
    "cannot parse 's3://…@bucket/run?region=x&token=…'"
    """
    return _OPTIONS.sub(r"\1=…", _SECRETS.sub(r"\1…@", text))


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of this machine, or one that several machines share.

    A file is written under another name, forced to the disk and renamed.
    """

    path: Path

    @property
    def is_sound(self) -> bool:
        """Whether a file is known to be as it was written: a disk may have lost the end of it."""
        return False

    def shown(self, path: str = "") -> str:
        """Return the path of a file, or of the folder."""
        return str(self.path / path)

    def files(self, folder: str) -> list[str]:
        """Return the paths of all files below a folder, relative to it and sorted."""
        top = self.path / folder
        return sorted(one.relative_to(top).as_posix() for one in top.rglob("*") if one.is_file())

    def open(self, path: str) -> IO[bytes]:
        """Return a file to read."""
        return (self.path / path).open("rb")

    def publish(self, path: str, content: bytes | memoryview) -> None:
        """Write a file under another name and give it its own; what a killed writer of it left goes."""
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
                return  # another writer of the same content was quicker, and took this one's file for a leftover
            raise _refusal(final, error) from error

    def publish_together(self, folder: str, index: str, files: Mapping[str, Fill]) -> None:
        """Write files into a folder that is renamed when all are there."""
        temporary = self.path / f".{folder}.{_writer_name()}"
        try:
            make_folder(temporary.parent)
            temporary.mkdir(mode=FOLDER_MODE)
            try:
                for name, fill in files.items():
                    _write(temporary / name, fill)
                temporary.rename(self.path / folder)  # fails if it is there: of two at one time the second does
            finally:
                for leftover in self.path.glob(f".{folder}.*"):
                    shutil.rmtree(leftover, ignore_errors=True)
        except OSError as error:
            if not (self.path / folder / index).exists():
                raise _refusal(self.path / folder, error) from error

    def beside(self, index: str, content: bytes) -> str:  # noqa: ARG002 (they have a folder of their own)
        """Return the folder of the index."""
        return index.rpartition("/")[0]

    def delete(self, path: str) -> None:
        """Delete a file, which may be gone by now."""
        (self.path / path).unlink(missing_ok=True)


def _writer_name() -> str:
    """Return what tells the files that this process is writing from those of others."""
    return f"{socket.gethostname()}-{os.getpid()}.writing"


def _write(path: Path, fill: Fill) -> None:
    """Write a file and force it to the disk."""
    with open_file(path) as stream:
        fill(stream)
        stream.flush()
        os.fsync(stream.fileno())


def _remove(paths: Iterable[Path]) -> None:
    """Delete files, some of which may be gone by now."""
    for path in paths:
        path.unlink(missing_ok=True)


def _refusal(path: Path, error: OSError) -> ResourceError:
    """Return the sentence for a file that the disk refuses."""
    return ResourceError(
        f"The folder of parts cannot be written ({error.strerror or error})",
        where=str(path),
        hint="Free disk space or choose another --parts; what was scored is kept.",
    )
