"""The reference of a training that did not name one with --ref, from what its trainer leaves beside the checkpoints.

Only text is read: arguments in JSON and YAML, the front matter of README.md, and config.json. A model counts only if it
is on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from prefscope.errors import UNREADABLE, UsageError
from prefscope.training.completeness import CONFIGS

REFERENCES = ("ref_model", "ref_model_name_or_path")
MODELS = ("model_name_or_path", "base_model", "model", "_name_or_path")
"""The model that a training starts from, which is its reference unless it names another."""
LARGEST_FILE = 1 << 20
MOST_FILES = 20


@dataclass(frozen=True, slots=True)
class Named:
    """A model that a file of the training names."""

    model: str
    key: str
    file: Path


def find_reference(checkpoint: Path, output: Path) -> Named:
    """Return the reference of a full checkpoint.

    Args:
        checkpoint: The folder with its model.
        output: The folder that the trainer writes to.

    Raises:
        UsageError: If no file names a model that is on this machine.
    """
    named = [
        one
        for keys in (REFERENCES, MODELS)
        for one in _named(checkpoint, output, keys)
        if not _is_in(Path(one.model).expanduser(), output)
    ]
    for one in named:
        if _is_local(one.model):
            return one
    if named:
        what = f"Its training started from {named[0].model!r} ({named[0].file}), which is not on this machine"
    else:
        what = "This is a full checkpoint, and no file beside it names the model that its training started from"
    raise UsageError(
        what,
        where=str(checkpoint),
        hint="Pass that model with --ref, or --ref none for losses without a reference.",
    )


def _named(checkpoint: Path, output: Path, keys: tuple[str, ...]) -> Iterator[Named]:
    """Yield the models that files in the checkpoint's folder and those around it name under some keys."""
    for folder in _folders(checkpoint, output):
        for file in _files(folder):
            values = _read(file)
            for key in keys:
                value = values.get(key)
                if isinstance(value, str) and value:
                    yield Named(value, key, file)


def _folders(checkpoint: Path, output: Path) -> list[Path]:
    """Return the folders from the one that the trainer writes to down to the checkpoint's model."""
    inside = [folder for folder in (checkpoint, *checkpoint.parents) if folder != output and _is_in(folder, output)]
    return [output, *reversed(inside)]


def _files(folder: Path) -> Iterator[Path]:
    """Yield the small readable files of a folder that may name a model, the most explicit first."""
    try:
        yaml = sorted(file for file in folder.iterdir() if file.suffix in (".yaml", ".yml"))
    except OSError:
        return
    for file in islice([folder / "args.json", *yaml, folder / "README.md", folder / "config.json"], MOST_FILES):
        try:
            if file.is_file() and file.stat().st_size <= LARGEST_FILE:
                yield file
        except OSError:
            continue


def _read(file: Path) -> dict[str, Any]:
    """Return the values of a file, empty if it is not what its name says."""
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            value = json.loads(text)
        else:
            value = yaml.safe_load(_front_matter(text) if file.suffix == ".md" else text)
    except (OSError, yaml.YAMLError, *UNREADABLE):
        return {}
    return value if isinstance(value, dict) else {}


def _front_matter(text: str) -> str:
    """Return the YAML between the first two lines of dashes."""
    return text[3:].partition("\n---")[0] if text.startswith("---\n") else ""


def _is_local(name: str) -> bool:
    """Return whether a model is on this machine: a folder with a config, or a hub id that has been downloaded."""
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return any((path / config).is_file() for config in CONFIGS)
        if name.count("/") > 1 or name.startswith((".", "/", "~")):
            return False
        from huggingface_hub import snapshot_download

        snapshot_download(name, local_files_only=True)
    except (OSError, ValueError):  # not a valid id, or not downloaded
        return False
    return True


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
