"""Claims on steps: of several watchers of one run folder, one scores a step.

A claim is a locked file. The system releases it when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from prefscope.errors import ResourceError
from prefscope.private import FILE_MODE


@contextmanager
def claimed(folder: Path, step: int) -> Iterator[bool]:
    """Provide whether this process has claimed a step, until the end of the context.

    Where the file system cannot lock files, every claim succeeds.

    Raises:
        ResourceError: If the folder cannot be written to.
    """
    with _claimed(folder / f".step-{step:07d}.lock") as is_mine:
        yield is_mine


def remove_left(folder: Path) -> None:
    """Remove the files of claims whose processes were killed."""
    for path in folder.glob(".step-*.lock"):
        with _claimed(path):
            pass


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    with ExitStack() as opened:
        descriptor = _locked(path)
        if descriptor is None:
            yield False
            return
        opened.callback(os.close, descriptor)
        opened.callback(_unlink, path)  # while it is still locked
        yield True


def _locked(path: Path) -> int | None:
    """Return the descriptor of a file that this process has locked; None if another process has.

    Raises:
        ResourceError: If the file cannot be created.
    """
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise ResourceError(
                f"The run folder cannot be written to ({error.strerror or error})",
                where=str(path.parent),
                hint="Check its permissions, or choose another folder with -o.",
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError:
            return descriptor
        if _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)  # its owner unlinked it between the two calls


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
