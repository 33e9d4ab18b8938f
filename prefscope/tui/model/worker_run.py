"""A scoring run in a worker process: its progress so far and its live ledger.

This module does not use widgets. The worker runs at a lower priority than the screens, so that they stay responsive.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prefscope.errors import PrefscopeError
from prefscope.events import (
    BatchScored,
    Event,
    Failed,
    Finished,
    Halved,
    LogpsKnown,
    Noted,
    Planned,
    Prepared,
    Progressed,
    from_json_line,
)
from prefscope.folders import cache_folder, store_path, unnamed_ledger, worker_log
from prefscope.ledger.live import LiveLedger
from prefscope.ledger.partial import remove_partial, write_partial
from prefscope.private import make_folder
from prefscope.scoring.store import LogpStore, sequence_key
from prefscope.settings import DispatchSettings, ScoreSettings
from prefscope.subprocesses import module_command

WORKER = module_command("prefscope.worker")
NICENESS = 10
SECONDS_TO_FIRST_SAVE, SECONDS_BETWEEN_SAVES = 0.5, 60.0
SHARE_OF_SAVING = 0.05
"""Share of the time of a run that may go into writing partial ledgers."""
PATIENCE = 1.0
"""Seconds that a worker has to exit after SIGTERM before it is killed."""
LONGEST_LINE = 1 << 22
LOG_LINES = 20


@dataclass(slots=True)
class Pass:
    """Progress of the forward passes of one model."""

    plan: Planned
    computed: int = 0
    """Tokens computed so far."""
    seconds: float = 0.0

    @property
    def left(self) -> int:
        """Number of tokens still to compute."""
        return max(self.plan.computed - self.computed, 0)


@dataclass(frozen=True, slots=True)
class Saved:
    """A partial ledger that was written."""

    path: Path
    scored: int
    """Number of its scored pairs."""
    pairs: int


class Scoring:
    """One scoring run, from start to end."""

    def __init__(self, settings: ScoreSettings, ledger: Path | None = None) -> None:
        """Prepare a run without starting it.

        Args:
            settings: What to score and how; by default, the worker leaves one core to the screens.
            ledger: Path of the ledger to write; None: the default path.
        """
        self.request = settings, ledger
        self.settings = leaving_a_core(settings)
        self.step = Progressed("starting", 0)
        """The current step, other than scoring."""
        self.notes: list[str] = []
        self.passes: dict[str, Pass] = {}
        """Progress of each model, by role."""
        self.live: LiveLedger | None = None
        self.generation = 0
        """Incremented with every change of the live ledger."""
        self.ended: Finished | Failed | None = None
        self.is_stopped = False
        """Whether the user stopped the run."""
        self.saved: Saved | None = None
        """The partial ledger, once there is one."""
        self._ledger = ledger
        self._process: asyncio.subprocess.Process | None = None
        self._gone = asyncio.Event()
        self.is_closed = False
        """Whether the screens need this run no longer."""
        self._scopes: dict[str, bytes] = {}
        self._store: LogpStore | None = None
        compute = settings.compute
        folder = cache_folder(compute.cache_dir)
        make_folder(folder)
        self._folder = tempfile.TemporaryDirectory(prefix="preview-", dir=folder, ignore_cleanup_errors=True)

    @property
    def is_running(self) -> bool:
        """Whether the run has neither ended nor been stopped."""
        return self.ended is None and not self.is_stopped

    @property
    def has_exited(self) -> bool:
        """Whether the worker is gone, and the partial ledger has what it scored."""
        return self._gone.is_set()

    def again(self) -> Scoring:
        """Return a new run with the same settings, which resumes where this one stopped."""
        return Scoring(*self.request)

    async def run(self) -> None:
        """Start the worker and process its events until it exits; cancelling this task ends the worker."""
        process = self._process = await asyncio.create_subprocess_exec(
            *WORKER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # the worker writes a log instead
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        saving = asyncio.create_task(self._save_regularly())
        try:
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, process.pid, NICENESS)
            await self._listen(process)
            code = await process.wait()
            if self.is_running:
                self.ended = _exit_failure(process.pid, code)
        except (PrefscopeError, ValueError, OSError) as error:
            self.ended = Failed(f"The scoring process sent invalid output ({error})", 3)
        finally:
            saving.cancel()
            await self._end(process)
            await self.save()
            self._gone.set()
            if self.is_closed:
                self._release()

    async def _save_regularly(self) -> None:
        """Write the partial ledger soon after the first batch and the first pair, and then from time to time."""
        taken = 0.0
        while True:
            has_pairs = self.saved is not None and self.saved.scored
            least = SECONDS_BETWEEN_SAVES if has_pairs else SECONDS_TO_FIRST_SAVE
            await asyncio.sleep(max(least, taken / SHARE_OF_SAVING))
            before = time.monotonic()
            await self.save()
            taken = time.monotonic() - before

    async def save(self) -> None:
        """Write what is scored to a partial ledger, unless nothing is, or the run has written its ledger."""
        if self.live is None or not self.live.has_sums or isinstance(self.ended, Finished):
            return
        live = self.live.snapshot()
        try:
            if await asyncio.to_thread(self._write, live):
                self.saved = Saved(live.saved_at, live.num_pairs - live.num_unscored, live.num_pairs)
        except (PrefscopeError, OSError) as error:
            self.notes.append(f"What was scored could not be written to a ledger: {error}")

    def _write(self, live: LiveLedger) -> bool:
        """Write a partial ledger, with a connection to the store of its own: this runs in another thread."""
        if not self.settings.compute.use_cache:
            return write_partial(live, None)
        scopes = dict(self._scopes)
        with LogpStore(store_path(self.settings.compute.cache_dir)) as store:

            def lookup(role: str, digests: Sequence[bytes]) -> list[NDArray[np.float32] | None]:
                keys = [sequence_key(scopes[role], digest) for digest in digests] if role in scopes else []
                found = store.lookup(keys)
                return [found.get(key) for key in keys] or [None] * len(digests)

            return write_partial(live, lookup)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            return
        preview = str(Path(self._folder.name) / "preview.parquet")
        ledger = None if self._ledger is None else str(self._ledger)
        request = {"settings": self.settings.to_json(), "ledger": ledger, "preview": preview}
        with suppress(ConnectionError):  # the worker died at once; run() reports it
            process.stdin.write(json.dumps(request).encode() + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            self.hear(from_json_line(line.decode()))
            await asyncio.sleep(0)  # keep the screens responsive if many lines arrive at once

    def hear(self, event: Event) -> None:
        """Update the state of the run with an event from the worker."""
        match event:
            case Progressed():
                self.step = event
            case Noted(text):
                self.notes.append(text)
            case Planned():
                self.passes[event.role] = Pass(event)
            case BatchScored():
                scored = self.passes[event.role]
                scored.computed += event.computed
                scored.seconds += event.seconds
            case Halved():
                self.notes.append(f"{event.role}: out of memory, now {event.sequences} sequences at a time")
            case Prepared():
                path = self._ledger or unnamed_ledger(self.settings.data.source, event.run_name)
                self.live = LiveLedger(Path(event.preview), path, self._token_logps)
                self.generation += 1
            case LogpsKnown() if self.live is not None:
                self._scopes[event.role] = bytes.fromhex(event.scope)
                self.live.take(event.role, zip(map(bytes.fromhex, event.digests), event.sums, strict=True))
                self.generation += 1
            case Finished() | Failed():
                self.ended = event
                if self.live is not None and isinstance(event, Finished):
                    remove_partial(self.live)
            case _:
                pass

    def _token_logps(self, role: str, digest: bytes) -> NDArray[np.float32] | None:
        """Return the per-token log-probs of a sequence, or None if they are not in the store yet."""
        if role not in self._scopes or not self.settings.compute.use_cache:
            return None
        if self._store is None:
            self._store = LogpStore(store_path(self.settings.compute.cache_dir))
        found = self._store.lookup([sequence_key(self._scopes[role], digest)])
        return next(iter(found.values()), None)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds left, from the rate so far or, before the first batch, the plan; None without a plan."""
        if not self.passes:
            return None
        rate = self.tokens_per_second
        if not rate:
            return sum(one.plan.seconds for one in self.passes.values())
        return sum(one.left for one in self.passes.values()) / rate

    @property
    def tokens_per_second(self) -> float:
        """Tokens computed per second, 0 before the first batch."""
        seconds = sum(one.seconds for one in self.passes.values())
        return sum(one.computed for one in self.passes.values()) / seconds if seconds else 0.0

    @property
    def last_words(self) -> str:
        """The last lines of the worker's log, empty if there is none."""
        with suppress(OSError):
            if self._process is not None:
                log = worker_log(self._process.pid).read_text(encoding="utf-8", errors="replace")
                return "\n".join(log.splitlines()[-LOG_LINES:])
        return ""

    def stop(self) -> None:
        """Stop the worker; committed results are kept."""
        self.is_stopped = self.is_running
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        self._signal(signal.SIGTERM)
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), PATIENCE)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await process.wait()

    def close(self) -> None:
        """Stop the worker if it is running; when it has gone, release the files that the live ledger reads."""
        self.stop()
        self.is_closed = True
        if self._process is None or self._gone.is_set():
            self._release()

    def _release(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None
        self._folder.cleanup()

    async def finish(self) -> None:
        """Close the run and wait until the worker has exited; not for timer callbacks, which must not block."""
        self.close()
        if self._process is not None:
            await self._gone.wait()


def leaving_a_core(settings: ScoreSettings) -> ScoreSettings:
    """Return the settings with one core left to the screens, unless several workers or devices share the work."""
    if settings.dispatch != DispatchSettings() or settings.models.tp > 1:
        return settings
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = settings.compute.threads or max(cores - 1, 1)
    return replace(settings, compute=replace(settings.compute, threads=threads))


def _exit_failure(process: int, code: int) -> Failed:
    """Return the failure to report for a worker that exited without a final event."""
    log = worker_log(process)
    if code == -signal.SIGKILL:
        what = "The scoring process was killed, which usually means that memory ran out"
    elif code < 0:
        what = f"The scoring process was killed by {signal.Signals(-code).name}"
    else:
        what = f"The scoring process exited with code {code}"
    where = f" Its log: {log}" if log.is_file() else ""
    return Failed(f"{what}. What was scored is kept.{where}", 3)
