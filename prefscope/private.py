"""Create folders and files that only their owner can read, because ledgers, marks and logs contain private texts.

This module does not import any other module of the project.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

FOLDER_MODE, FILE_MODE = 0o700, 0o600
_PART = re.compile(r"\.(\d+)(?:-\d+)?\.part")


def make_folder(path: Path) -> None:
    """Create a folder and its missing parents, accessible only to their owner; existing folders are not changed.

    Raises:
        OSError: If a folder cannot be created.
    """
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    path.mkdir(exist_ok=True)  # fails on a file


def make_file(path: Path) -> None:
    """Create an empty file, accessible only to its owner, to be filled later.

    Raises:
        OSError: If the file cannot be created.
    """
    os.close(_open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))


def open_file(path: Path, mode: str = "wb") -> IO[bytes]:
    """Open a file for writing bytes; a new file is accessible only to its owner.

    Raises:
        OSError: If the file cannot be opened.
    """
    return open(path, mode, opener=_open)


def replace_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a value as indented JSON, in place of an existing file with its permissions; atomic.

    Raises:
        OSError: If the file cannot be written; an existing one is then unchanged.
    """
    remove_leftovers(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    with open_file(part) as stream:
        stream.write(text.encode(errors="backslashreplace"))  # for lone surrogates, this is JSON's escape
    keep_mode(part, path)
    part.replace(path)


def keep_mode(part: Path, path: Path) -> None:
    """Copy the permissions of an existing file to the file that will replace it."""
    with suppress(FileNotFoundError):
        part.chmod(path.stat().st_mode & 0o777)


def remove_leftovers(path: Path) -> None:
    """Remove partial files of processes that died while writing."""
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
