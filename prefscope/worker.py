"""The pipeline in its own process: settings in, events out, a JSON object a line (`python -m prefscope.worker`).

The first line of stdin is `{"settings": ScoreSettings.to_json(), "ledger": path, "preview": path}`. A null ledger goes
to the default place; a preview, which may be left out, is a ledger without log-probs that is there before scoring is.
stdout holds events and nothing else; whatever else is printed goes to `folders.worker_log`.

The process ends at once, whatever it computes, at SIGTERM, SIGINT and SIGHUP, and as by SIGHUP when stdin ends or
nobody reads stdout any more; committed batches are kept. The signals keep the system's own action: a handler of
Python's would wait for the kernel or the import that is running, and a mask would be inherited by child processes.
Where the worker leads its process group, the group's other processes go with it when its reader goes away.

Exit codes: 0 finished; after `Failed` the error's own, or 70 for a bug; otherwise death by signal, to a shell 143, 130
or 129. A starter that closes stdin before the process ends can see SIGHUP in place of any; the last event stands.
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

from prefscope.errors import PrefscopeError, UsageError, no_space
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
    """Do the run that stdin asks for and return the exit code."""
    for number in SIGNALS:  # the starter may ignore or block some, and Python handles SIGINT itself
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
    except Exception as error:  # noqa: BLE001 (whatever it is, the starter has to hear of it)
        code = _report(error, emit, log)
    with suppress(OSError):
        sys.stdout.flush()
        if log.stat().st_size == 0:
            log.unlink()
    return code


def _report(error: Exception, emit: Callable[[Event], None], log: Path) -> int:
    """Emit what went wrong and return the exit code."""
    refusal = no_space(error) if isinstance(error, OSError) else error
    if isinstance(refusal, PrefscopeError):
        emit(Failed(str(refusal), refusal.exit_code))
        return refusal.exit_code
    with suppress(OSError):
        traceback.print_exception(error)
    emit(Failed(f"A bug in prefscope: {type(error).__name__}. Please report it with {log}", EXIT_BUG))
    return EXIT_BUG


def _take_streams(log: Path) -> tuple[BinaryIO, BinaryIO]:
    """Return the starter's streams; file descriptors 0 to 2 become an empty input and the log, C libraries' too."""
    stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    try:
        make_folder(log.parent)
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    except OSError:
        target = os.dup(2)  # the run matters more than its log
    for source, taken in ((os.open(os.devnull, os.O_RDONLY), 0), (target, 1), (target, 2)):
        os.dup2(source, taken)
    faulthandler.enable()
    with suppress(OSError):  # another worker is at it too
        for old in log.parent.glob(worker_log("*").name):
            if time.time() - old.stat().st_mtime > LOG_DAYS * 86_400:
                old.unlink()
    return stdin, stdout


def _run(stdin: BinaryIO, stdout: BinaryIO, emit: Callable[[Event], None]) -> None:
    """Read the settings, then score; raises what a user can mend as `PrefscopeError`."""
    settings, asked, preview = _read_request(stdin)
    threading.Thread(target=_watch, args=(stdin.fileno(), stdout.fileno()), daemon=True).start()

    def place(run_name: str) -> Path:
        path = unnamed_ledger(settings.data.source, run_name) if asked is None else asked
        _remove_at_signals(part_path(path))
        return path

    from prefscope.pipeline.run import score

    score(settings, place, emit, preview)


def _read_request(stdin: BinaryIO) -> tuple[ScoreSettings, Path | None, Path | None]:
    """Return the settings of the first line of stdin, and the paths of ledger and preview if it names them.

    Raises:
        UsageError: The line is something else.
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
            f"These are no settings of a run ({type(error).__name__}: {error})",
            where="stdin",
            hint='Its first line has to be {"settings": …, "ledger": a path or null}.',
        ) from error
    if settings.data.source == "-":
        raise UsageError("A worker's stdin carries no data set", where="stdin", hint="Give a file or a hub id.")
    return settings, asked, preview


def _watch(stdin: int, stdout: int) -> None:
    """Hang up when stdin ends or nobody reads stdout any more; the latter is seen between two events, too."""
    poll = select.poll()
    poll.register(stdin, select.POLLIN)
    poll.register(stdout, 0)  # errors are always reported
    try:
        while all(descriptor == stdin and os.read(stdin, select.PIPE_BUF) for descriptor, _ in poll.poll()):
            pass
    finally:
        _hang_up()


def _hang_up() -> None:
    """End this process as a terminal that went away would, and its children where it leads its own group."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGHUP)
    # To the main thread, so that it also interrupts a write that nobody reads.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGHUP)


def _remove_at_signals(part: Path) -> None:
    """Have a signal remove a file before it ends the process; from now on no kernel can hold it up for long."""

    def finish(number: int, _: object) -> None:
        with suppress(OSError):
            part.unlink()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, finish)


if __name__ == "__main__":
    run_and_exit(main)
