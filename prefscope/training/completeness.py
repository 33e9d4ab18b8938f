"""Whether a trainer has finished writing a checkpoint.

Reads configs, indexes and the headers of safetensors files: neither pickled files nor the state of an optimizer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import read_json
from prefscope.scoring.folder_contents import loaded_weights, no_weights
from prefscope.scoring.headers import safetensors_header

CONFIGS = ("adapter_config.json", "config.json")
STATE = "trainer_state.json"
"""What transformers' Trainer writes last into a checkpoint."""
_SHARD = re.compile(r".+-[0-9]+-of-[0-9]+\.(?:safetensors|bin)")
_UNNAMED = re.compile(r"^This (?:safetensors file|config)\b")
_INDEX_SUFFIXES = (".safetensors.index.json", ".bin.index.json")

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size in bytes and time of the last change in nanoseconds of every file."""


def stamp_of(folder: Path) -> Stamp:
    """Return what changes while files are written to a folder; its subfolders are not looked into.

    Raises:
        OSError: If the folder cannot be read.
    """
    with os.scandir(folder) as entries:
        files = [(entry.name, entry.stat()) for entry in entries if not entry.is_dir()]
    return tuple(sorted((name, found.st_size, found.st_ctime_ns) for name, found in files))


def what_is_missing(folder: Path) -> str:
    """Return what a checkpoint still needs before it can be loaded, as a clause; empty if nothing.

    A folder with pickled weights alone is complete: loading refuses them, or not.

    Raises:
        OSError: If the folder cannot be read.
    """
    names = {entry.name for entry in folder.iterdir()}
    is_adapter = CONFIGS[0] in names
    try:
        read_json(folder / CONFIGS[0 if is_adapter else 1])
        missing = [name for index in _indexes(names) for name in _indexed(folder / index) if name not in names]
        weights = loaded_weights(folder, is_adapter=is_adapter)
        for file in weights:
            safetensors_header(file)
    except ModelError as error:
        return _UNNAMED.sub(Path(error.where).name or "its index", error.what)
    if missing:
        return f"{missing[0]} is not there yet"
    pickled = any(name.endswith(".bin") and name != "training_args.bin" for name in names)
    if not (weights or pickled):
        return _instead_of_weights(folder) or "its weights are not there yet"
    shards = [name for name in names if _SHARD.fullmatch(name)]
    single = any(not _SHARD.fullmatch(file.name) for file in weights)
    return "the index of its shards is not there yet" if shards and not single and not _indexes(names) else ""


def _instead_of_weights(folder: Path) -> str:
    """Return what a folder has that has to be converted first, and how; empty if nothing is recognised."""
    found = no_weights(folder, "")
    return f"{found.what[:1].lower()}{found.what[1:]}. {found.hint.rstrip('.')}" if found.hint else ""


def _indexes(names: set[str]) -> list[str]:
    """Return the names of the indexes of shards."""
    return sorted(name for name in names if name.endswith(_INDEX_SUFFIXES))


def _indexed(index: Path) -> Iterator[str]:
    """Yield the names of the shards that an index lists.

    Raises:
        ModelError: If the index is damaged.
    """
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict):
        raise ModelError(f"{index.name} lists no weights", where=str(index))
    for name in dict.fromkeys(listed.values()):
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(
                f"{index.name} names {str(name)!r:.80}, which is not a file of its folder", where=str(index)
            )
        yield name
