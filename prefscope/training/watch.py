"""The watch: finds the checkpoints of a training as they appear, scores each once, and records it in the run folder.

find ─▶ claim ─▶ score on the same sample ─▶ compare with what is there ─▶ record

Whatever happens to one checkpoint (half written, damaged, deleted while it is read) is recorded as its problem, and the
watch goes on. It ends with an error only for what would stop every checkpoint: the data set, the reference, or settings
that differ from those of the run folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from prefscope.errors import (
    DataError,
    LedgerError,
    MissingExtraError,
    ModelError,
    UsageError,
    refusal_of,
    was_interrupted,
)
from prefscope.events import Event, Noted
from prefscope.ledger.run_folder import RunFolder, Step
from prefscope.training.checkpoints import CheckpointFinder, Found, Look, Unfinished
from prefscope.training.claims import claimed, remove_left
from prefscope.training.same_training import SameTraining
from prefscope.training.scorer import CheckpointScorer
from prefscope.training.settings import WatchSettings
from prefscope.training.start import check_start, version_of

SECONDS_BETWEEN_LOOKS = 2.0
LOOKS_BEFORE_A_NOTE = 30
"""Looks at the same unfinished checkpoint after which it is said what it waits for."""
DELETED = "It was deleted while it was read; the trainer may keep only its last checkpoints."
ENDING = (DataError, LedgerError, MissingExtraError, UsageError)
"""Errors that every other checkpoint would end with, too."""

Emit = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Watched:
    """A step that was scored or skipped."""

    step: Step
    ledger: Path | None
    """None if it was skipped."""
    seconds: float | None = None
    """How long scoring took; None if it was scored before, or by another process."""


def watch(
    settings: WatchSettings, emit: Emit, pause: Callable[[float], object] = time.sleep
) -> Generator[Watched, None, None]:
    """Score checkpoints as they appear, until the caller stops; with `once`, score those that are there.

    Yields the steps that were scored before, in the order of training, then each other step when it is scored or
    skipped.

    Args:
        settings: What to watch, and how to score it.
        emit: Called with every event of the runs, and with notes.
        pause: Waits for some seconds.

    Raises:
        PrefscopeError: For what would stop every checkpoint; what was scored is kept.
    """
    from prefscope.pipeline.shared_store import shared_store

    with shared_store(settings.score) as score:
        output, folder = Path(settings.checkpoints).expanduser(), RunFolder(Path(settings.folder).expanduser())
        checked = check_start(score, output, folder, emit)
        remove_left(folder.path)
        yield from _Watch(replace(settings, score=checked), output, folder, emit).run(pause)


class _Watch:
    """One watch of one training, from start to end."""

    def __init__(self, settings: WatchSettings, output: Path, folder: RunFolder, emit: Emit) -> None:
        self.settings = settings
        self.output = output
        self.folder = folder
        self.emit = emit
        self.finder = CheckpointFinder(output, version=version_of(folder))
        self.scorer = CheckpointScorer(settings.score, output, folder, self._note, emit)
        self.same = SameTraining(output, settings.score, emit)
        self._version: tuple[int, int] = (0, 0)
        self._done: dict[int, Step] = {}
        """Steps with a ledger."""
        self._failed: set[Found] = set()
        self._reported: set[str] = set()
        """Notes that were emitted, and names of the incomplete checkpoints that were skipped."""
        self._looks: dict[Unfinished, int] = {}
        self._waiting: set[str] = set()
        """Names of the checkpoints that were ready at the last look."""
        self._is_late = False
        """Whether checkpoints are deleted before they are scored: then the newest, which stays longest, comes first."""

    def run(self, pause: Callable[[float], object]) -> Iterator[Watched]:
        """Look, score what is ready, and wait, again and again."""
        while True:
            yield from self._news()
            look = self._look()
            wanted = self._wanted(look)
            outcome = next(filter(None, map(self._try, reversed(wanted) if self._is_late else wanted)), None)
            if outcome is not None:
                yield outcome
                continue
            yield from self._left_behind(look)
            if self.settings.once and not (look.is_settling or self._wanted(look)):
                return
            pause(SECONDS_BETWEEN_LOOKS)

    def _news(self) -> Iterator[Watched]:
        """Yield the steps that have got a ledger since the last time, here or elsewhere."""
        version = self.folder.version
        if version == self._version:
            return
        self._version = version
        for step in self.folder.steps():
            if step.step not in self._done and self._has_ledger(step):
                self._done[step.step] = step
                yield Watched(step, self.folder.path / str(step.ledger))

    def _look(self) -> Look:
        look = self.finder.look({step.checkpoint for step in self._done.values()})
        ledgers = {step.checkpoint: self.folder.path / str(step.ledger) for step in self._done.values()}
        self.same.check(look.inodes, ledgers)
        if lost := self._waiting - look.inodes.keys() - ledgers.keys():
            self._is_late = True
            self._note(
                f"{min(lost)} was deleted before it was scored, so from now on the newest checkpoint comes first. To "
                "score more of them, use a smaller --sample, or let the trainer keep more."
            )
        self._waiting = {found.name for found in look.ready if found not in self._failed and self._is_due(found)}
        if newer := self.finder.newer_version:
            self._note(
                f"A new training has begun in {self.output / newer}; this one stays with "
                f"{self.finder.version}. Watch the new one with another run folder.",
            )
        return look

    def _wanted(self, look: Look) -> list[Found]:
        """Return the checkpoints to score now: of several of the same step the first."""
        last = max([*self._done, *(one.step for one in look.ready)], default=0)
        wanted: dict[int, Found] = {}
        for found in look.ready:
            is_last = self.settings.once and found.step == last
            if found in self._failed or not (is_last or self._is_due(found)):
                continue
            same = self._done[found.step].checkpoint if found.step in self._done else ""
            if same or found.step in wanted:
                first = same or wanted[found.step].name
                self._note(f"{found.name} is of step {found.step}, as {first} is, and is not scored.")
            else:
                wanted[found.step] = found
        return list(wanted.values())

    def _is_due(self, found: Found) -> bool:
        return found.step % self.settings.every == 0

    def _try(self, found: Found) -> Watched | None:
        """Score a checkpoint; None if another process does, or if it has to be looked at again."""
        with claimed(self.folder.path, found.step) as is_mine:
            if not is_mine or self._is_recorded(found.step):
                return None
            started = time.monotonic()
            try:
                path = self.scorer.score(found)
            except Exception as error:  # noqa: BLE001 (libraries raise errors of any kind on files that vanish)
                return self._fail(found, error)
            step = Step(found.step, found.name, path.name, epoch=found.epoch)
            self._done[found.step] = step
            self.folder.record(step)
            return Watched(step, path, time.monotonic() - started)

    def _is_recorded(self, step: int) -> bool:
        return any(one.step == step for one in self.folder.steps() if self._has_ledger(one))

    def _has_ledger(self, step: Step) -> bool:
        return step.ledger is not None and (self.folder.path / step.ledger).is_file()

    def _fail(self, found: Found, error: Exception) -> Watched | None:
        """Record why a checkpoint was not scored; None if it has to be looked at again.

        Raises:
            Exception: The error, if it would end every other checkpoint, too, or is a bug.
        """
        if was_interrupted(error):
            raise error
        if not found.path.exists():
            self._is_late = True
            return self._skip(Step(found.step, found.name, problem=DELETED, epoch=found.epoch))
        if found.has_changed:
            self.emit(Noted(f"{found.name} changed while it was read, and is looked at again."))
            return None
        if isinstance(error, ENDING) and not (isinstance(error, DataError) and self._done):
            raise error  # rows that are pairs to other checkpoints are refused by this one's chat template
        refusal = refusal_of(error)
        if refusal is None and isinstance(error, OSError):
            refusal = ModelError(f"It cannot be read ({error.strerror or error})", where=str(found.path))
        if refusal is None:
            raise error
        self._failed.add(found)
        return self._skip(Step(found.step, found.name, problem=str(refusal), epoch=found.epoch))

    def _left_behind(self, look: Look) -> Iterator[Watched]:
        """Yield the unfinished checkpoints that training has moved past, and note what the others wait for."""
        complete = max([*self._done, *(one.step for one in look.ready)], default=-1)
        looks, self._looks = self._looks, {}
        for one in look.unfinished:
            if not one.reason or one.step in self._done or one.name in self._reported:
                continue
            self._looks[one] = looks.get(one, 0) + 1
            if one.step < complete or (self.settings.once and not look.is_settling):
                self._reported.add(one.name)
                yield self._skip(Step(one.step, one.name, problem=f"It is incomplete: {one.reason}."))
            elif self._looks[one] >= LOOKS_BEFORE_A_NOTE:
                self._note(f"{one.name} is not scored yet: {one.reason}.")

    def _skip(self, step: Step) -> Watched:
        self.folder.record(step)
        return Watched(step, None)

    def _note(self, text: str) -> None:
        """Emit a note once."""
        if text not in self._reported:
            self._reported.add(text)
            self.emit(Noted(text))
