"""Find checkpoints near the data set and the working folder, to offer them on the load screen.

Only names of files are read; links are not followed, and the search is bounded, because folders can be huge or slow.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

DEPTH = 3
MOST_FOUND, MOST_ENTRIES = 60, 4000
LONGEST_SECONDS = 1.0
CONFIGS = frozenset({"config.json", "adapter_config.json"})
WEIGHTS = (".safetensors", ".safetensors.index.json")
_NUMBERS = re.compile(r"(\d+)")


def find_checkpoints(data: str, *, folder: Path | None = None) -> tuple[str, ...]:
    """Return checkpoints, adapters and GGUF files in the working folder, then those in the folder of the data set.

    Args:
        data: Name of the data set, which may not exist.
        folder: The working folder; None: the current one.
    """
    here = folder or Path.cwd()
    places = [here, *_folder_of(data)]
    found: dict[str, None] = {}
    for place in places:
        names = {_shown(path, here) for path in islice(_search(place), MOST_FOUND)}
        found |= dict.fromkeys(sorted(names, key=_order))
    return tuple(found)


def _folder_of(data: str) -> Iterator[Path]:
    with suppress(OSError, RuntimeError):
        path = Path(data).expanduser()
        if data and path.exists():
            yield path.absolute() if path.is_dir() else path.absolute().parent


def _search(root: Path) -> Iterator[Path]:
    """Yield the checkpoints below a folder, level by level."""
    stop, seen = time.monotonic() + LONGEST_SECONDS, 0
    level = [str(root)]
    for _ in range(DEPTH):
        deeper: list[str] = []
        for folder in level:
            entries = _entries(folder)
            seen += len(entries)
            if seen > MOST_ENTRIES or time.monotonic() > stop:
                return
            yield from _checkpoints(folder, entries)
            deeper += sorted(one.path for one in entries if one.is_dir(follow_symlinks=False))
        level = deeper


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder that are neither hidden nor links; none if it cannot be read."""
    found: list[os.DirEntry[str]] = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if len(found) > MOST_ENTRIES:
                break
            if not entry.name.startswith(".") and not entry.is_symlink():
                found.append(entry)
    return found


def _checkpoints(folder: str, entries: Iterable[os.DirEntry[str]]) -> Iterator[Path]:
    names = [entry.name for entry in entries]
    if CONFIGS & {*names} and any(name.endswith(WEIGHTS) for name in names):
        yield Path(folder)
    yield from (Path(folder, name) for name in names if name.endswith(".gguf"))


def _shown(path: Path, here: Path) -> str:
    """Return a path as a user would type it in the working folder."""
    inside = path.is_relative_to(here) and path != here
    return str(path.relative_to(here)) if inside else str(path)


def _order(name: str) -> list[tuple[int, str]]:
    """Return a sort key with numbers in their own order: checkpoint-90 before checkpoint-100."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _NUMBERS.split(name)]
