"""A watch in its own process (`python -m prefscope.training.watch_process`), for the screens.

The first line of stdin is `WatchSettings.to_json()` as JSON. The process watches until stdin ends or SIGTERM arrives;
it then stops where it is, and a later watch goes on. It sends nothing: results are in the run folder, notes and errors
in its output. Exit codes: 0 if it was stopped or is done, the code of the error, or 70 for a bug.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress

from prefscope.errors import UsageError, refusal_of, was_interrupted
from prefscope.events import Event, Noted
from prefscope.folders import worker_log
from prefscope.process_exit import run_and_exit
from prefscope.report.visible import visible_lines
from prefscope.subprocesses import Child, end_with_starter, module_command, start_child
from prefscope.training.settings import WatchSettings

COMMAND = module_command("prefscope.training.watch_process")
EXIT_BUG = 70
_STARTED = itertools.count()
PATIENCE = 5.0
"""Seconds that the process has to leave its forward pass before it is ended."""


def start_watch(settings: WatchSettings) -> Child:
    """Start a process that watches; it ends with this process, or with `Child.end`."""
    child = start_child(COMMAND, worker_log(f"{os.getpid()}-watch-{next(_STARTED)}"))
    if child.process.stdin is not None:
        with suppress(OSError):  # it died at once; its exit code and its log say why
            child.process.stdin.write(json.dumps(settings.to_json()).encode() + b"\n")
            child.process.stdin.flush()
    return child


def main() -> int:
    """Watch with the settings on stdin, and return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        settings = _read_settings()
        end_with_starter(_interrupt)
        _watch(settings)
    except KeyboardInterrupt:
        return 0
    except Exception as error:  # noqa: BLE001 (any error has to be in the log)
        return 0 if was_interrupted(error) else _report(error)
    return 0


def _read_settings() -> WatchSettings:
    """Return the settings in the first line of stdin.

    Raises:
        UsageError: If the line is invalid.
    """
    line = bytearray()
    while not line.endswith(b"\n") and (more := os.read(0, 1)):  # no byte more, as the rest is waited for elsewhere
        line += more
    try:
        return WatchSettings.from_json(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"These are not settings of a watch ({type(error).__name__}: {error})", where="stdin"
        ) from error


def _watch(settings: WatchSettings) -> None:
    from prefscope.training.watch import watch

    said: set[str] = set()

    def emit(event: Event) -> None:
        if isinstance(event, Noted) and event.text not in said:
            said.add(event.text)
            _log(event.text)

    for watched in watch(settings, emit):
        if watched.step.problem:
            _log(f"{watched.step.checkpoint}: {watched.step.problem}")


def _report(error: Exception) -> int:
    refusal = refusal_of(error)
    if refusal is None:
        traceback.print_exception(error)
        return EXIT_BUG
    _log(str(refusal))
    return refusal.exit_code


def _log(text: str) -> None:
    sys.stderr.write(f"{visible_lines(text)}\n")
    sys.stderr.flush()


def _interrupt() -> None:
    """Interrupt the main thread as ctrl+C does, and give it time to leave temporary folders behind it."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    time.sleep(PATIENCE)


if __name__ == "__main__":
    run_and_exit(main)
