"""Worker processes on this machine, each with its own copy of the models, on its own GPU where there are several.

A worker that dies is restarted and its unit continues with the next batch. A unit that keeps crashing its worker is
dropped and reported.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from prefscope.errors import PrefscopeError, ResourceError
from prefscope.events import Halved, Noted
from prefscope.folders import worker_log
from prefscope.pipeline.dispatch.job import Batch, Job
from prefscope.pipeline.dispatch.unit import Answer, Done, Dropped, Emit, Scored, Turn, Unit
from prefscope.subprocesses import Child, describe_exit, module_command, start_child

COMMAND = module_command("prefscope.pipeline.dispatch.worker_process")
DEATHS_WHILE_LOADING = 3


@dataclass(slots=True)
class _Worker:
    """A worker process and its current unit."""

    number: int
    child: Child
    is_ready: bool = False
    """Whether its models are loaded."""
    unit: Unit | None = None
    left: deque[Turn] = field(default_factory=deque)
    """The unit's batches that are not finished."""
    tries: int = 0

    def hand_over(self) -> None:
        """Send the unit's batches to the process."""
        with suppress(OSError):  # if it has died, the next read notices
            self.child.connection.send(tuple(self.left))


@dataclass(slots=True)
class Workers:
    """Dispatches to worker processes on this machine; `close` ends them."""

    job: Job
    environments: tuple[Mapping[str, str], ...]
    """Environment of each process."""
    emit: Emit
    _alive: dict[int, _Worker] = field(default_factory=dict)
    _deaths_while_loading: int = 0

    @property
    def width(self) -> int:
        """Number of batches computed at the same time."""
        return len(self.environments)

    def close(self) -> None:
        """End all processes."""
        for worker in self._alive.values():
            worker.child.end()
        self._alive.clear()

    def answers(self, units: Iterable[Unit], tries: int) -> Iterator[Answer]:
        """Yield the results of units, as they arrive.

        Raises:
            ResourceError: If workers keep dying while they load the models.
            PrefscopeError: Any error that a worker reports.
        """
        fresh, again = iter(units), deque[tuple[Unit, tuple[Turn, ...], int]]()
        while True:
            for number in range(self.width):
                yield from self._assign_work(number, fresh, again)
            busy = {worker.child.connection: worker for worker in self._alive.values() if worker.unit is not None}
            if not busy:
                return
            for ready in wait([*busy]):
                yield from self._receive(busy[ready], again, tries)  # type: ignore[index]  # what was waited for

    def _assign_work(
        self, number: int, fresh: Iterator[Unit], again: deque[tuple[Unit, tuple[Turn, ...], int]]
    ) -> Iterator[Answer]:
        """Give an idle worker its next unit, starting the worker if needed; units without batches are done at once."""
        worker = self._alive.get(number)
        if worker is not None and worker.unit is not None:
            return
        while True:
            if again:
                unit, turns, tries = again.popleft()
            else:
                found = next(fresh, None)
                if found is None:
                    return
                unit, turns, tries = found, tuple(found.turns), 0
            if turns:
                break
            yield Done(unit)
        if worker is None:
            worker = self._alive[number] = self._start(number)
        worker.unit, worker.left, worker.tries = unit, deque(turns), tries
        if worker.is_ready:  # a worker that is still loading would not read a large unit, and sending it would block
            worker.hand_over()

    def _start(self, number: int) -> _Worker:
        log = worker_log(f"{os.getpid()}-{number}")
        worker = _Worker(number, start_child(COMMAND, log, environment=self.environments[number]))
        worker.child.connection.send(self.job)
        return worker

    def _receive(
        self, worker: _Worker, again: deque[tuple[Unit, tuple[Turn, ...], int]], tries: int
    ) -> Iterator[Answer]:
        """Handle a message of a worker, or its death."""
        try:
            received = worker.child.connection.recv()
        except (EOFError, OSError):
            yield from self._handle_death(worker, again, tries)
            return
        match received:
            case None:
                worker.is_ready, self._deaths_while_loading = True, 0
                worker.hand_over()
            case PrefscopeError():
                raise received
            case Halved():
                self.emit(received)
            case Batch(found, seconds):
                yield Scored(worker.left.popleft(), found, seconds)
                if not worker.left and worker.unit is not None:
                    unit, worker.unit = worker.unit, None
                    yield Done(unit)
            case _:  # steps of loading are not shown
                pass

    def _handle_death(
        self, worker: _Worker, again: deque[tuple[Unit, tuple[Turn, ...], int]], tries: int
    ) -> Iterator[Answer]:
        """Queue the unit of a dead worker again, or drop it."""
        how = describe_exit(self._alive.pop(worker.number).child.end())
        unit, left = worker.unit, tuple(worker.left)
        if not worker.is_ready:
            self._deaths_while_loading += 1
            if self._deaths_while_loading == DEATHS_WHILE_LOADING:
                raise ResourceError(
                    f"Workers die while they load the models ({how})",
                    where=worker.child.where,
                    hint="If memory is short, use fewer --workers. Log-probs computed so far are kept.",
                )
        self.emit(Noted(f"worker {worker.number} died ({how}) and is being restarted"))
        tried = worker.tries + worker.is_ready
        if unit is not None and tried < tries:
            again.append((unit, left, tried))
        elif unit is not None:
            yield Dropped(Unit(unit.shard, left))
