"""Find the data files of a folder or a glob, in order; splits and shards are recognised by file names."""

from __future__ import annotations

import glob
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from prefscope.data.compression import compression_named
from prefscope.data.files import format_named
from prefscope.data.saved import Files, named, saved_files
from prefscope.errors import DataError

_GLOB = re.compile(r"[*?\[]")
_NUMBERED = re.compile(r"[-_.](\d+)[-_.]of[-_.](\d+)(?:-[0-9a-f]{6,})?$")
_NUMBER = re.compile(r"[-_.]?\d+$")
_WORDS = frozenset(
    {"train", "training", "test", "testing", "eval", "evaluation", "valid", "validation", "val", "dev", "holdout"}
)
_DESCRIPTIONS = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
_LISTED = 5


def is_glob(path_or_glob: str) -> bool:
    """Return whether a text contains wildcards."""
    return _GLOB.search(path_or_glob) is not None


def glob_files(pattern: str, split: str | None) -> Files:
    """Return the files that match a pattern.

    Raises:
        DataError: If no file matches, or files of several splits match and no split is requested.
    """
    found = glob.glob(str(Path(pattern).expanduser()), recursive=True)  # noqa: PTH207 (Path.glob rejects absolute patterns)
    paths = [path for path in sorted(map(Path, found), key=_order) if path.is_file()]
    if not paths:
        raise DataError("matches no files", where=pattern, hint="Check the pattern.")
    paths = _of_split(paths, {path: split_of(path) for path in paths}, split, pattern)
    return Files(named(pattern, split), tuple(paths), tuple(map(str, paths)))


def folder_files(folder: Path, name: str, split: str | None) -> Files:
    """Return the data files of a folder and its subfolders.

    Raises:
        DataError: If there are none, a shard is missing, or the files are of several formats, or of several splits and
            no split is requested.
    """
    saved = saved_files(folder, name, split)
    if saved is not None:
        return saved
    if (folder / "config.json").is_file() and any(folder.glob("*.safetensors")):
        raise DataError("is a folder with a model checkpoint, not a data set", where=name)
    inside = [path for path in sorted(folder.rglob("*"), key=_order) if path.is_file() and not _is_hidden(path, folder)]
    paths = [path for path in inside if format_named(path) and path.name not in _DESCRIPTIONS]
    if not paths:
        raise DataError("is a folder without data files", where=name, hint="Pass a file or another folder.")
    paths = _of_split(paths, {path: split_of(path.relative_to(folder)) for path in paths}, split, name)
    _check_formats(paths, name)
    _check_shards(paths, name)
    labels = tuple(str(path.relative_to(folder)) for path in paths)
    return Files(named(name, split), tuple(paths), labels, _ignored(inside, folder))


def split_of(path: Path) -> str:
    """Return the split that a file's name, or else one of its folders, stands for; "" for none.

    >>> [split_of(Path(name)) for name in ("train-00000-of-00002.parquet", "data/test_prefs.jsonl.gz", "part-1.csv")]
    ['train', 'test_prefs', '']
    """
    inner = path.with_suffix("") if compression_named(path) is not None else path
    stem = _NUMBER.sub("", _NUMBERED.sub("", inner.stem))
    return next((part for part in (stem, *reversed(path.parent.parts)) if _names_a_split(part)), "")


def _names_a_split(part: str) -> bool:
    return not _WORDS.isdisjoint(re.split(r"[^a-z]+", part.lower()))


def _of_split(paths: Sequence[Path], splits: dict[Path, str], split: str | None, name: str) -> list[Path]:
    """Return the files of the requested split, or all files if there is only one split."""
    found = list(dict.fromkeys(splits.values()))
    listed = ", ".join(f"`{one}`" if one else "files without a split" for one in found)
    if split is not None and split not in found:
        raise DataError(f"has no split `{split}`; found: {listed}", where=name)
    if split is None and len(found) > 1:
        hint = f"Name one with --split {next(one for one in found if one)}, or pass the files by name."
        raise DataError(f"contains several splits: {listed}", where=name, hint=hint)
    return [path for path in paths if split is None or splits[path] == split]


def _check_formats(paths: Sequence[Path], name: str) -> None:
    formats = Counter(map(format_named, paths))
    if len(formats) > 1:
        counts = ", ".join(f"{number} {format_}" for format_, number in formats.items())
        hint = "Pass the files of one format, or a glob such as 'folder/*.jsonl'."
        raise DataError(f"contains files of several formats ({counts})", where=name, hint=hint)


def _check_shards(paths: Sequence[Path], name: str) -> None:
    """Refuse numbered shards if one is missing."""
    shards: dict[tuple[str, int], set[int]] = defaultdict(set)
    for path in paths:
        plain = path.with_suffix("") if compression_named(path) is not None else path
        if found := _NUMBERED.search(plain.stem):
            shards[str(path.parent / plain.stem[: found.start()]), int(found[2])].add(int(found[1]))
    for (start, total), numbers in shards.items():
        missing = sorted({*range(total)} - numbers)
        if missing and numbers <= {*range(total)}:
            raise DataError(
                f"shard {missing[0]} of {Path(start).name} is missing ({total} shards, numbered from 0)",
                where=name,
                hint="Download it, or pass the files by name to read only these.",
            )


def _ignored(inside: Sequence[Path], folder: Path) -> tuple[str, ...]:
    names = [str(path.relative_to(folder)) for path in inside if not format_named(path) and path.suffix != ".md"]
    names = [name for name in names if not name.upper().startswith("LICEN")]
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return (f"skipped, because their format is unknown: {', '.join(names[:_LISTED])}{more}",) if names else ()


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)


def _order(path: Path) -> list[tuple[str, int, str]]:
    """Return a sort key that compares numbers in names as numbers."""
    pieces = re.split(r"(\d+)", str(path))
    return [(text, int(number or 0), number) for text, number in zip(pieces[::2], [*pieces[1::2], ""], strict=True)]
