"""The dispatcher for a Ray cluster. It talks to a separate driver process, so Ray is not imported here.

Without a folder of parts, units carry their token ids to the actors, and log-probs are returned and committed here.
With one, units are just numbers of shards: actors read the plan in the folder and write the parts themselves, so that
hardly any data passes through this process.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import torch

from prefscope.errors import MissingExtraError, PrefscopeError, ResourceError, UsageError
from prefscope.events import BatchScored, Noted
from prefscope.folders import worker_log
from prefscope.pipeline.bad_rows import counted
from prefscope.pipeline.dispatch.job import Batch
from prefscope.pipeline.dispatch.ray_driver import Cluster, Request, end_session
from prefscope.pipeline.dispatch.ray_job import Payload, RayJob
from prefscope.pipeline.dispatch.unit import Answer, Done, Dropped, Emit, Scored, Unit
from prefscope.settings import DispatchSettings
from prefscope.subprocesses import Child, module_command, start_child

COMMAND = module_command("prefscope.pipeline.dispatch.ray_driver")
MOST_TOKENS = 1 << 27
"""Limit for all units that carry token ids, as Ray's object store holds all of them before the first is computed."""
SECONDS_TO_END = 15.0


@dataclass(slots=True)
class RayCluster:
    """Dispatches to actors of a Ray cluster; `close` ends the actors, and Ray if it was started for them."""

    job: RayJob
    asked: DispatchSettings
    device: torch.device
    emit: Emit
    width: int = 1
    """Number of batches computed at the same time; known once the cluster is."""
    _child: Child | None = None
    _folder: str = ""
    _has_failed: bool = False
    """Whether to keep the log."""

    def open(self) -> None:
        """Start the driver process.

        Raises:
            MissingExtraError: If Ray is not installed.
        """
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError("--engine ray", "ray")
        self._folder = tempfile.mkdtemp(prefix="prefscope-ray-")
        token = {} if self.asked.address else {"RAY_AUTH_TOKEN": secrets.token_hex(32)}  # else it writes one to ~
        log = worker_log(f"{os.getpid()}-ray")
        self._child = start_child(COMMAND, log, arguments=[self._folder], environment=os.environ | token)

    def close(self) -> None:
        """End the driver process, and Ray if it was started for this run, and delete Ray's files."""
        if self._child is not None:
            self._child.connection.close()
            with suppress(subprocess.TimeoutExpired):
                self._child.process.wait(SECONDS_TO_END)
            end_session(self._child.process.pid)
            self._child.end(keep_log=self._has_failed)
        shutil.rmtree(self._folder, ignore_errors=True)

    def answers(self, units: Iterable[Unit], tries: int) -> Iterator[Answer]:
        """Yield the results of units, as they arrive.

        Raises:
            UsageError: If the units have too many tokens to send through Ray.
            ResourceError: If Ray fails, or the cluster is too small.
            PrefscopeError: Any error that an actor reports.
        """
        given: list[tuple[Unit, Payload]] = []
        for unit in units:
            if self.job.parts is not None and unit.is_whole:
                given.append((unit, unit.shard))
            elif turns := tuple(unit.turns):
                given.append((replace(unit, turns=turns), turns))
            else:
                yield Done(unit)
        if not given:
            return
        _check_amount(payload for _, payload in given)
        answered = set[int]()
        packed = tuple(pickle.dumps(payload) for _, payload in given)
        in_flight = 2 if all(unit.is_whole for unit, _ in given) else 1
        for number, answer in self._ask(packed, tries, in_flight):
            answered.add(number)
            yield from _unpacked(*given[number], pickle.loads(answer))  # noqa: S301 (our own actor's)
        for number, (unit, _) in enumerate(given):
            if number not in answered:
                self.emit(Noted(f"shard {unit.shard} crashed every Ray worker that computed it"))
                yield Dropped(unit)

    def _ask(self, units: tuple[bytes, ...], tries: int, in_flight: int) -> Iterator[tuple[int, bytes]]:
        """Yield the driver's answers, each with the number of its unit."""
        asked = self.asked
        needed = float(self.job.job.settings.models.tp) if self.device.type == "cuda" else 0.0
        gpus = needed if asked.gpus_per_worker is None else asked.gpus_per_worker
        cluster = Cluster(asked.address, asked.workers, gpus, asked.cpus_per_worker, self._folder)
        if self._child is None:
            raise RuntimeError("the cluster is not open")
        with suppress(OSError):  # if it has died, the next read notices
            self._child.connection.send(Request(pickle.dumps(self.job), units, cluster, tries, in_flight))
        while (received := self._receive(self._child)) is not None:
            if isinstance(received, int):
                self.width = received
                self.emit(Noted(f"Ray: {counted(received, 'worker')}"))
            else:
                yield received

    def _receive(self, child: Child) -> int | tuple[int, bytes] | None:
        try:
            received = child.connection.recv()
        except (EOFError, OSError) as error:
            self._has_failed = True
            raise ResourceError(
                "The process that talks to Ray has died",
                where=child.where,
                hint="Run the same command again to continue from here.",
            ) from error
        if isinstance(received, PrefscopeError):
            self._has_failed = True
            raise received
        return received  # type: ignore[no-any-return]


def _check_amount(payloads: Iterable[Payload]) -> None:
    """Raise an error if the units carry more tokens than Ray's object store should hold."""
    tokens = sum(turn.tokens for payload in payloads if not isinstance(payload, int) for turn in payload)
    if tokens > MOST_TOKENS:
        raise UsageError(
            f"{tokens:,} tokens are too many to send to workers through Ray",
            hint="Pass --parts FOLDER on a disk that all nodes share: workers then read and write there.",
        )


def _unpacked(
    unit: Unit, payload: Payload, answer: PrefscopeError | list[Batch] | list[BatchScored]
) -> Iterator[Answer]:
    """Yield the results in an actor's answer to a unit."""
    if isinstance(answer, PrefscopeError):
        raise answer
    if isinstance(payload, int):
        yield from (batch for batch in answer if isinstance(batch, BatchScored))
        yield Done(unit, is_written=True)
        return
    for turn, batch in zip(payload, answer, strict=True):
        if isinstance(batch, Batch):
            yield Scored(turn, batch.found, batch.seconds)
    yield Done(unit)
