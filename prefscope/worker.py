"""Runs the pipeline in its own process, controlled by JSON lines on stdin and stdout (`python -m prefscope.worker`).

The first line of stdin is `{"settings": ScoreSettings.to_json(), "ledger": path, "preview": path}`. If the ledger is
null, the default path is used. The preview is optional: a ledger without log-probs that is written before scoring
starts. stdout carries events only; all other output goes to `folders.worker_log`.

The process ends immediately, whatever it is doing, on SIGTERM, SIGINT and SIGHUP, and as by SIGHUP when stdin ends or
stdout is closed by its reader; committed batches are kept. The signals keep their default action: a Python handler
would have to wait for the kernel or import that is running, and a mask would be inherited by child processes. If the
worker leads its process group, the group's other processes are killed with it when its reader goes away.

Exit codes: 0 if finished; after `Failed`, the code of the error, or 70 for a bug; otherwise death by signal, which a
shell shows as 143, 130 or 129. If the parent closes stdin before the process ends, it may see SIGHUP instead of any of
these; the last event is decisive.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from prefscope.errors import UsageError, refusal_of
from prefscope.events import Event, Failed, to_json_line
from prefscope.folders import unnamed_ledger, worker_log
from prefscope.ledger.file import part_path
from prefscope.private import make_folder
from prefscope.process_exit import run_and_exit
from prefscope.settings import ScoreSettings

EXIT_BUG = 70
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOG_DAYS = 30


def main() -> int:
    """Run the request on stdin, and return the exit code."""
    for number in SIGNALS:  # the parent may ignore or block some, and Python handles SIGINT itself
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    log = worker_log(os.getpid())
    stdin, stdout = _take_streams(log)

    def emit(event: Event) -> None:
        try:
            stdout.write(to_json_line(event).encode() + b"\n")
            stdout.flush()
        except OSError:
            _hang_up()

    try:
        _run(stdin, stdout, emit)
        code = 0
    except Exception as error:  # noqa: BLE001 (any error has to be reported to the parent)
        code = _report(error, emit, log)
    with suppress(OSError):
        sys.stdout.flush()
        if log.stat().st_size == 0:
            log.unlink()
    return code


def _report(error: Exception, emit: Callable[[Event], None], log: Path) -> int:
    """Emit a `Failed` event, and return the exit code."""
    refusal = refusal_of(error)
    if refusal is not None:
        emit(Failed(str(refusal), refusal.exit_code))
        return refusal.exit_code
    with suppress(OSError):
        traceback.print_exception(error)
    emit(Failed(f"A bug in prefscope: {type(error).__name__}. Please report it with {log}", EXIT_BUG))
    return EXIT_BUG


def _take_streams(log: Path) -> tuple[BinaryIO, BinaryIO]:
    """Take over stdin and stdout for messages; descriptors 0 to 2 become an empty input and the log, for C code too."""
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    try:
        make_folder(log.parent)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    except OSError:
        target = os.dup(2)  # the run is more important than its log
    for source, taken in ((os.open(os.devnull, os.O_RDONLY), 0), (target, 1), (target, 2)):
        os.dup2(source, taken)
    faulthandler.enable()
    with suppress(OSError):  # another worker may be deleting the same files
        for old in log.parent.glob(worker_log("*").name):
            if time.time() - old.stat().st_mtime > LOG_DAYS * 86_400:
                old.unlink()
    return stdin, stdout


def _run(stdin: BinaryIO, stdout: BinaryIO, emit: Callable[[Event], None]) -> None:
    """Read the settings and score; raises `PrefscopeError` for anything that a user can fix."""
    settings, asked, preview = _read_request(stdin)
    threading.Thread(target=_watch, args=(stdin.fileno(), stdout.fileno()), daemon=True).start()

    def place(run_name: str) -> Path:
        path = unnamed_ledger(settings.data.source, run_name) if asked is None else asked
        _remove_at_signals(part_path(path))
        return path

    from prefscope.pipeline.run import score

    score(settings, place, emit, preview)


def _read_request(stdin: BinaryIO) -> tuple[ScoreSettings, Path | None, Path | None]:
    """Return the settings in the first line of stdin, and the paths of ledger and preview, if any.

    Raises:
        UsageError: If the line is invalid.
    """
    line = stdin.readline()
    if not line.endswith(b"\n"):
        _hang_up()
    try:
        value = json.loads(line)
        settings = ScoreSettings.from_json(value["settings"])
        asked, preview = (None if path is None else Path(path) for path in (value["ledger"], value.get("preview")))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"These are not settings of a run ({type(error).__name__}: {error})",
            where="stdin",
            hint='Its first line has to be {"settings": …, "ledger": a path or null}.',
        ) from error
    if settings.data.source == "-":
        raise UsageError("A worker cannot read its data set from stdin", where="stdin", hint="Pass a file or a hub id.")
    return settings, asked, preview


def _watch(stdin: int, stdout: int) -> None:
    """Hang up when stdin ends or the reader of stdout is gone, which is noticed even between two events."""
    poll = select.poll()
    poll.register(stdin, select.POLLIN)
    poll.register(stdout, 0)  # errors are always reported
    try:
        while all(descriptor == stdin and os.read(stdin, select.PIPE_BUF) for descriptor, _ in poll.poll()):
            pass
    finally:
        _hang_up()


def _hang_up() -> None:
    """End this process as if its terminal had closed, along with its process group if it leads one."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGHUP)
    # Sent to the main thread, so that it also interrupts a blocked write.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGHUP)


def _remove_at_signals(part: Path) -> None:
    """Make signals remove a file before they end the process; from here on, no long-running kernel can delay them."""

    def finish(number: int, _: object) -> None:
        with suppress(OSError):
            part.unlink()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, finish)


if __name__ == "__main__":
    run_and_exit(main)
