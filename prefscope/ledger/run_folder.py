"""A run folder: the ledgers of one training's checkpoints, and a small index of them.

`watch` and the callback write run folders; the screens and `prefscope compare` read them. Several processes may write
to one folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prefscope.errors import UNREADABLE, LedgerError, ResourceError, UsageError
from prefscope.ledger.file import RUN_INDEX, locked
from prefscope.ledger.pairing import load_runs
from prefscope.ledger.table import Ledger
from prefscope.private import make_folder, replace_json

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Step:
    """A checkpoint of a training, scored or not."""

    step: int
    """Optimiser steps, or epochs where a trainer counts only these."""
    checkpoint: str
    """Name of the checkpoint's folder; empty for a model that was scored while it was trained."""
    ledger: str | None = None
    """Name of the ledger in the run folder; None if the checkpoint was not scored."""
    problem: str = ""
    """Why it was not scored."""
    epoch: float | None = None

    @property
    def is_scored(self) -> bool:
        """Whether there is a ledger."""
        return self.ledger is not None


class RunFolder:
    """The ledgers of a training's checkpoints, in the order of training."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def index(self) -> Path:
        """The path of the index."""
        return self.path / RUN_INDEX

    @property
    def version(self) -> tuple[int, int]:
        """What changes whenever a step is added: cheap to ask for again and again."""
        try:
            found = self.index.stat()
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino

    def ledger_path(self, step: int) -> Path:
        """Return the path of the ledger of a step."""
        return self.path / f"step-{step:07d}.parquet"

    def steps(self) -> tuple[Step, ...]:
        """Return all steps in the order of training; none if there is no index yet.

        Raises:
            LedgerError: If the index is damaged or was written by a newer version.
        """
        return tuple(_read(self.index).values())

    def scored(self) -> dict[int, Path]:
        """Return the paths of the ledgers that are there by their steps, in the order of training.

        Raises:
            LedgerError: As `steps`.
        """
        paths = {one.step: self.path / one.ledger for one in self.steps() if one.ledger is not None}
        return {step: path for step, path in paths.items() if path.is_file()}

    def ledgers(self) -> list[Path]:
        """Return the paths of the ledgers that are there, in the order of training.

        Raises:
            LedgerError: As `steps`.
        """
        return [*self.scored().values()]

    def record(self, step: Step) -> None:
        """Add a step, or replace the one with the same number.

        A step that has a ledger is not replaced by one that has none.

        Raises:
            LedgerError: As `steps`.
            ResourceError: If the index cannot be written.
        """
        with self._changed() as steps:
            if step.is_scored or step.step not in steps or not steps[step.step].is_scored:
                steps[step.step] = step

    def drop_after(self, last: int) -> int:
        """Take the steps after the last one of a training that is resumed off the index; return their number.

        Their ledgers stay.

        Raises:
            LedgerError: As `steps`.
            ResourceError: If the index cannot be written.
        """
        if all(one.step <= last for one in self.steps()):
            return 0
        with self._changed() as steps:
            later = [number for number in steps if number > last]
            for number in later:
                del steps[number]
        return len(later)

    @contextmanager
    def _changed(self) -> Iterator[dict[int, Step]]:
        """Yield the steps by number to be changed, and write them, while no other process does."""
        try:
            make_folder(self.path)
            with locked(self.path):
                steps = _read(self.index)
                yield steps
                ordered = [asdict(steps[number]) for number in sorted(steps)]
                replace_json(self.index, {"format": FORMAT_VERSION, "steps": ordered})
        except OSError as error:
            raise ResourceError(
                f"The index of the run folder cannot be written ({error.strerror or error})",
                where=str(self.index),
                hint="Free disk space or choose another folder with -o.",
            ) from error


def is_run_folder(path: Path) -> bool:
    """Return whether a path is a run folder."""
    return (path / RUN_INDEX).is_file()


def open_runs(paths: Sequence[Path]) -> tuple[list[Ledger], list[int] | None]:
    """Open ledgers of the same pairs, or those of a run folder with their steps.

    Raises:
        UsageError: A file is named twice, a run folder is named along with others, or no checkpoint is scored yet.
        LedgerError: A ledger or the index cannot be read.
    """
    folders = [path for path in paths if is_run_folder(path)]
    if not folders:
        return load_runs(paths), None
    if len(paths) > 1:
        raise UsageError("A run folder is opened alone", where=str(folders[0]), hint="Name it alone, or its ledgers.")
    return load_steps(RunFolder(folders[0]))


def load_steps(folder: RunFolder) -> tuple[list[Ledger], list[int]]:
    """Open the ledgers of a run folder.

    Raises:
        UsageError: No checkpoint is scored yet.
        LedgerError: A ledger or the index cannot be read.
    """
    found = folder.scored()
    if not found:
        hint = "Wait for the first checkpoint, or see what prefscope watch says."
        raise UsageError("No checkpoint of this run folder is scored yet", where=str(folder.path), hint=hint)
    return load_runs(found.values()), [*found]


def _read(path: Path) -> dict[int, Step]:
    """Return the steps of an index by number, in order."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT_VERSION:
            what = "This run folder was written by a newer prefscope"
            raise LedgerError(what, where=str(path), hint="Update prefscope.")
        steps = [_step(value) for value in content["steps"]]
    except FileNotFoundError:
        return {}
    except (OSError, KeyError, TypeError, AttributeError, *UNREADABLE) as error:
        raise LedgerError(
            f"The index of the run folder cannot be read ({type(error).__name__}: {error})",
            where=str(path),
            hint="Open its ledgers by name, or move the index away and watch the checkpoints again.",
        ) from error
    return {one.step: one for one in sorted(steps, key=lambda one: one.step)}


def _step(value: Mapping[str, Any]) -> Step:
    """Return a step of the index.

    Raises:
        ValueError: If a value has the wrong type, or the ledger is not a file of the folder itself.
    """
    step = Step(**value)
    kinds = {"step": (int,), "checkpoint": (str,), "ledger": (str, type(None)), "problem": (str,)}
    wrong = [name for name, kind in kinds.items() if not isinstance(getattr(step, name), kind)]
    if step.epoch is not None and not (isinstance(step.epoch, (int, float)) and math.isfinite(step.epoch)):
        wrong.append("epoch")
    if isinstance(step.step, bool) or step.step < 0:
        wrong.append("step")
    if step.ledger is not None and (Path(step.ledger).name != step.ledger or not step.ledger):
        wrong.append("ledger")
    if wrong:
        raise ValueError(f"{', '.join(wrong)} of a step is wrong")
    return step
