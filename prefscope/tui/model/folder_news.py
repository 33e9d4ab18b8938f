"""What is new in a run folder: checkpoints that were scored, or could not be.

This module does not use widgets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from prefscope.errors import PrefscopeError
from prefscope.ledger.run_folder import RunFolder
from prefscope.ledger.table import load_ledger
from prefscope.tui.model.session import Session
from prefscope.tui.model.watcher import Watcher


@dataclass(frozen=True, slots=True)
class News:
    """A notification about a checkpoint; shown once."""

    sentence: str
    is_scored: bool
    """Whether a run was added to the session."""

    @property
    def severity(self) -> Literal["information", "warning"]:
        """How it is shown."""
        return "information" if self.is_scored else "warning"


class FolderNews:
    """Adds what appears in a run folder to a session."""

    def __init__(self, folder: RunFolder, watcher: Watcher | None = None) -> None:
        """Follow a run folder, and the process that writes to it, if it is known."""
        self.folder = folder
        self._watcher = watcher
        self._version: tuple[int, int] | None = None
        self._problems: set[tuple[int, str]] = set()

    def of(self, session: Session) -> Iterator[News]:
        """Yield what is new, and add new ledgers to the session."""
        if self._watcher is not None and (failure := self._watcher.failure) is not None:
            self._watcher = None
            yield News(f"The watch has ended: {failure}", is_scored=False)
        if (version := self.folder.version) == self._version:
            return
        is_first, self._version = self._version is None, version
        try:
            yield from self._problems_now(quiet=is_first)
            yield from self._ledgers(session)
        except PrefscopeError as error:
            yield News(str(error), is_scored=False)

    def _problems_now(self, *, quiet: bool) -> Iterator[News]:
        """Yield the problems that have not been told; those that were there at the start are known."""
        for one in self.folder.steps():
            problem = one.step, one.problem
            if one.problem and problem not in self._problems:
                self._problems.add(problem)
                if not quiet:
                    yield News(f"{one.checkpoint or f'step {one.step:,}'}: {one.problem}", is_scored=False)

    def _ledgers(self, session: Session) -> Iterator[News]:
        for step, path in self.folder.scored().items():
            if step not in session.runs.steps:
                session.add_run(load_ledger(path), step)
                yield News(f"Step {step:,} is scored.", is_scored=True)
