"""Data sets saved with `save_to_disk` of `datasets`: Arrow files listed in `state.json`, one folder per split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from prefscope.data.records import Json
from prefscope.errors import UNREADABLE, DataError


@dataclass(frozen=True, slots=True)
class Files:
    """Data files, in order."""

    name: str
    """The name of the whole, for messages."""
    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    """Their names, for messages."""
    remarks: tuple[str, ...] = ()


def named(name: str, split: str | None) -> str:
    """Return the display name of a data set, or of one of its splits."""
    return name if split is None else f"{name} ({split})"


def saved_files(folder: Path, name: str, split: str | None) -> Files | None:
    """Return the files of a saved data set, or None if the folder is not one.

    Raises:
        DataError: If there are several splits and none is named, a file is missing, or there is an indices mapping.
    """
    if (folder / "dataset_dict.json").is_file():
        return _saved_splits(folder, name, split)
    if not (folder / "state.json").is_file():
        return None
    if split is not None:
        raise DataError(f"is a single split; there is no `{split}`", where=name, hint="Omit --split.")
    return _saved(folder, name)


def _saved_splits(folder: Path, name: str, split: str | None) -> Files:
    """Return the files of one split saved by `DatasetDict.save_to_disk`."""
    splits = _read(folder / "dataset_dict.json", name).get("splits")
    found = [str(one) for one in splits] if isinstance(splits, list) else []
    chosen = found[0] if split is None and len(found) == 1 else split
    listed = ", ".join(f"`{one}`" for one in found)
    if chosen is None:
        raise DataError(f"contains several splits: {listed}", where=name, hint=f"Name one with --split {found[0]}.")
    if chosen not in found:
        raise DataError(f"has no split `{chosen}`; found: {listed}", where=name)
    return _saved(folder / chosen, named(name, chosen))


def _saved(folder: Path, name: str) -> Files:
    """Return the files saved by `Dataset.save_to_disk`, in the order of `state.json`."""
    state = _read(folder / "state.json", name)
    names = [str(one.get("filename")) for one in state.get("_data_files") or [] if isinstance(one, dict)]
    if not names or any(state.get(key) for key in ("_indices_files", "_indices_data_files")):
        hint = "Save it again with a newer `datasets`, or as Parquet."
        raise DataError("is a saved data set with an indices mapping, which cannot be read", where=name, hint=hint)
    paths = tuple(folder / one for one in names)
    lost = [path.name for path in paths if not path.is_file()]
    if lost:
        raise DataError(f"its file {lost[0]} is missing", where=name, hint="Copy the folder again.")
    return Files(name, paths, tuple(names))


def _read(path: Path, name: str) -> dict[str, Json]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, *UNREADABLE) as error:
        raise DataError(f"its {path.name} cannot be read ({error})", where=name) from error
    return value if isinstance(value, dict) else {}
