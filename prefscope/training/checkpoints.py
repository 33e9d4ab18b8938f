"""Finds the checkpoints of a training in the folder that its trainer writes to.

| trainer | what it writes |
|---|---|
| transformers, TRL, LLaMA-Factory, axolotl | `checkpoint-500` |
| ms-swift | `v0-20250131-120000/checkpoint-500` |
| torchtune | `epoch_0`, `step_100` |
| others | `step-100`, `global_step_100`, the model perhaps in its `actor/huggingface` |
"""

from __future__ import annotations

import math
import os
import re
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefscope.errors import ModelError, ResourceError
from prefscope.scoring.checkpoints import read_json
from prefscope.training.completeness import CONFIGS, STATE, Stamp, stamp_of, what_is_missing

NAME = re.compile(r"(?P<kind>checkpoint-|global_step[_-]?|step[_-]?|epoch[_-]?)(?P<number>[0-9]{1,12})(?:_hf)?")
VERSION = re.compile(r"v([0-9]{1,6})-[0-9]{4,}[0-9-]*")
"""A run of ms-swift, which starts a new one in the same folder if it is started again."""
INNER = ("", "huggingface", "actor/huggingface", "policy/huggingface")
"""Where in its folder the model is that transformers can load."""
LONGEST_STATE = 1 << 28
MOST_STEPS = 10**12
SECONDS_AT_REST = 10.0
"""A checkpoint that has not changed for so long is not compared with a second look."""


@dataclass(frozen=True, slots=True)
class Found:
    """A complete checkpoint."""

    step: int
    """Optimiser steps, or epochs if the trainer counts only these."""
    name: str
    """Its folder, relative to the one that is watched."""
    path: Path
    """The folder with its model."""
    epoch: float | None
    stamp: Stamp
    """What it was like when it was found complete."""

    @property
    def has_changed(self) -> bool:
        """Whether files have changed, appeared or vanished since it was found."""
        try:
            return stamp_of(self.path) != self.stamp
        except OSError:
            return True


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A checkpoint that cannot be scored yet."""

    step: int
    name: str
    reason: str
    """What it waits for, as a clause; empty if it changed a moment ago."""


@dataclass(frozen=True, slots=True)
class Look:
    """The checkpoints that are there now, in the order of training."""

    ready: tuple[Found, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    inodes: dict[str, int] = field(default_factory=dict)
    """The inode of every checkpoint's folder by name: another number is another folder of that name."""

    @property
    def is_settling(self) -> bool:
        """Whether a second look may find more complete."""
        return any(not one.reason for one in self.unfinished)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A folder that is named as a checkpoint."""

    number: int
    kind: str
    name: str
    path: Path
    inode: int


class CheckpointFinder:
    """Looks again and again at the folder that a trainer writes to."""

    def __init__(self, folder: Path, *, version: str = "", clock: Callable[[], float] = time.time) -> None:
        """Prepare to look; the folder need not exist.

        Args:
            folder: The folder that a trainer writes its checkpoints to.
            version: The run of ms-swift to look at; empty: the newest when the first appears.
            clock: Returns the time in seconds since the epoch.
        """
        self.folder = folder
        self.version = version
        self._clock = clock
        self._known: dict[str, tuple[Stamp, str]] = {}
        """What was found missing from a checkpoint that looked like this."""
        self._with_state: set[str] = set()
        """The kinds of names whose checkpoints have a trainer_state.json."""

    def look(self, done: Collection[str] = ()) -> Look:
        """Return what is there now, except the checkpoints with these names; nothing if there is no such folder.

        Raises:
            ResourceError: If the folder cannot be read.
        """
        candidates = self._candidates()
        for one in candidates:
            if one.kind not in self._with_state and (one.path / STATE).is_file():
                self._with_state.add(one.kind)
        looked = [self._examine(one) for one in candidates if one.name not in done]
        ready = sorted((one for one in looked if isinstance(one, Found)), key=lambda one: one.step)
        unfinished = tuple(one for one in looked if isinstance(one, Unfinished))
        complete = {one.step for one in ready}  # another folder of the same step may hold what only a trainer needs
        left = tuple(one for one in unfinished if one.step not in complete)
        return Look(tuple(ready), left, {one.name: one.inode for one in candidates})

    @property
    def newer_version(self) -> str:
        """The name of a later run of ms-swift than the one that is looked at; empty if there is none."""
        newest = _newest_version(self.folder) if self.version else ""
        return newest if newest != self.version else ""

    def _candidates(self) -> list[_Candidate]:
        """Return the folders that are named as checkpoints in order; epochs only if no steps are counted."""
        found = list(self._entries(self.folder, ""))
        if not found and (version := self.version or _newest_version(self.folder)):
            found = list(self._entries(self.folder / version, f"{version}/"))
            self.version = version if found else self.version
        by_step = [one for one in found if not one.kind.startswith("epoch")]
        return sorted(by_step or found, key=lambda one: (one.number, one.name))

    def _entries(self, folder: Path, prefix: str) -> Iterator[_Candidate]:
        for name, inode in _subfolders(folder):
            if match := NAME.fullmatch(name):
                kind = match["kind"].rstrip("_-")
                yield _Candidate(int(match["number"]), kind, prefix + name, folder / name, inode)

    def _examine(self, candidate: _Candidate) -> Found | Unfinished | None:
        """Return a checkpoint as it is now; None if it has just been deleted."""
        try:
            path = model_folder(candidate.path) or candidate.path
            stamp = tuple(sorted({*stamp_of(candidate.path), *stamp_of(path)}))
            reason = self._missing(candidate, path, stamp)
        except OSError as error:
            if not candidate.path.exists():
                return None
            return Unfinished(candidate.number, candidate.name, f"it cannot be read ({error.strerror or error})")
        known, self._known[candidate.name] = self._known.get(candidate.name), (stamp, reason)
        is_same = known is not None and known[0] == stamp and not _may_be_half(stamp)
        if not (is_same or self._is_at_rest(stamp)):
            return Unfinished(candidate.number, candidate.name, "")
        if reason:
            return Unfinished(candidate.number, candidate.name, reason)
        step, epoch = _progress(candidate)
        return Found(step, candidate.name, path, epoch, stamp_of(path))

    def _missing(self, candidate: _Candidate, path: Path, stamp: Stamp) -> str:
        """Return what a checkpoint waits for, as a clause; empty if nothing."""
        known = self._known.get(candidate.name)
        if known is not None and known[0] == stamp and not known[1]:
            return ""
        if not any((path / one).is_file() for one in CONFIGS):
            return "neither config.json nor adapter_config.json is there yet"
        if reason := what_is_missing(path):
            return reason
        if not (candidate.path / STATE).is_file():
            wanted = candidate.kind in self._with_state
            return f"{STATE}, which the other checkpoints have, is not there yet" if wanted else ""
        return "" if _state(candidate) is not None else f"{STATE} cannot be read"

    def _is_at_rest(self, stamp: Stamp) -> bool:
        newest = max((changed for _, _, changed in stamp), default=0) / 1e9
        return self._clock() - newest > SECONDS_AT_REST


def _may_be_half(stamp: Stamp) -> bool:
    """Return whether transformers' Trainer has written its arguments but not its state, which it writes last."""
    names = {name for name, _, _ in stamp}
    return "training_args.bin" in names and STATE not in names


def model_folder(checkpoint: Path) -> Path | None:
    """Return the folder in a checkpoint that has a config: itself, or an inner one; None if there is none."""
    folders = (checkpoint / name for name in INNER)
    return next((folder for folder in folders if any((folder / one).is_file() for one in CONFIGS)), None)


def _newest_version(folder: Path) -> str:
    """Return the name of the newest run of ms-swift in a folder, empty if there is none."""
    versions = [(int(match[1]), name) for name, _ in _subfolders(folder) if (match := VERSION.fullmatch(name))]
    return max(versions, default=(0, ""))[1]


def _subfolders(folder: Path) -> list[tuple[str, int]]:
    """Return the names and inodes of the folders in a folder, and of links to folders; none if it does not exist.

    Raises:
        ResourceError: If it cannot be read.
    """
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if NAME.fullmatch(entry.name) or VERSION.fullmatch(entry.name):
                    with suppress(OSError):  # a link to nowhere, or it has just been deleted
                        status = entry.stat()
                        found += [(entry.name, status.st_ino)] if stat.S_ISDIR(status.st_mode) else []
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ResourceError(
            f"The folder of checkpoints cannot be read ({error.strerror or error})",
            where=str(folder),
            hint="Check its permissions, and run the same command again.",
        ) from error
    return found


def _progress(candidate: _Candidate) -> tuple[int, float | None]:
    """Return the step and the epoch of a checkpoint, from the trainer's state or, without one, from its name."""
    step, epoch = candidate.number, float(candidate.number) if candidate.kind == "epoch" else None
    value = _state(candidate) or {}
    counted, passed = value.get("global_step"), value.get("epoch")
    if type(counted) is int and 0 <= counted < MOST_STEPS:
        step = counted
    if isinstance(passed, int | float) and math.isfinite(passed) and passed >= 0:
        epoch = float(passed)
    return step, epoch


def _state(candidate: _Candidate) -> dict[str, Any] | None:
    """Return the trainer's state in a checkpoint, empty if there is none or it is huge, None if it cannot be read."""
    file = candidate.path / STATE
    try:
        return read_json(file) if file.stat().st_size <= LONGEST_STATE else {}
    except FileNotFoundError:
        return {}
    except (OSError, ModelError):
        return None
