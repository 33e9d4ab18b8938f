"""Folders and files that only their owner can read: ledgers, marks and logs hold private texts.

This module imports nothing of the project.
"""

from __future__ import annotations

import glob
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import IO

FOLDER_MODE, FILE_MODE = 0o700, 0o600
_PART = re.compile(r"\.(\d+)(?:-\d+)?\.part")


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, for their owner alone; those that are there stay as they are.

    Raises:
        OSError: It cannot be made.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    path.mkdir(exist_ok=True)  # fails on a file


def make_file(path: Path) -> None:
    """Make an empty file for its owner alone, to be filled by whatever opens it.

    Raises:
        OSError: It cannot be made.
    """
    os.close(_open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))


def open_file(path: Path, mode: str = "wb") -> IO[bytes]:
    """Open a file for writing bytes, which is made for its owner alone.

    Raises:
        OSError: It cannot be opened.
    """
    return open(path, mode, opener=_open)


def keep_mode(part: Path, path: Path) -> None:
    """Give a file that will replace another the permissions that somebody gave to the other one."""
    with suppress(FileNotFoundError):
        part.chmod(path.stat().st_mode & 0o777)


def remove_leftovers(path: Path) -> None:
    """Remove what processes that are dead by now left of a file that they were writing."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        found = _PART.fullmatch(part.name, len(path.name) + 1)
        if found and not _is_alive(int(found[1])):
            with suppress(OSError):
                part.unlink()


def _open(path: Path | str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
