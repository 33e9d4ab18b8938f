"""Processes of this program that compute for another: a socket to speak over, a log for what they print.

A child ends when its starter is gone, which the end of its stdin tells.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from prefscope.private import make_folder, open_file


@dataclass(frozen=True, slots=True)
class Child:
    """A process, and this end of its socket."""

    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path | None
    """Where it prints; None: where its starter does."""

    @property
    def where(self) -> str:
        """The log's path, empty where there is nothing in it."""
        return str(self.log) if self.log is not None and self.log.is_file() and self.log.stat().st_size else ""

    def end(self, *, keep_log: bool = True) -> int:
        """End the process and return its exit code; a log goes if it is not to be kept or has not a word."""
        self.connection.close()
        self.process.kill()
        code = self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.log is not None and not (keep_log and self.where):
            self.log.unlink(missing_ok=True)
        return code


def start_child(
    command: Sequence[str],
    log: Path | None,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start a process.

    Args:
        command: What to run; it gets the number of its end of the socket as an argument.
        log: Where what it prints is added; None: it goes where this process's output does.
        arguments: More of them, after the number.
        environment: None: this process's own.
    """
    ours, theirs = Pipe()
    if log is not None:
        make_folder(log.parent)
    with nullcontext() if log is None else open_file(log, "ab") as stream:
        process = subprocess.Popen(  # noqa: S603 (this program)
            [*command, str(theirs.fileno()), *arguments],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=stream,
            pass_fds=[theirs.fileno()],
            env=None if environment is None else dict(environment),
            start_new_session=True,  # ctrl+C is for the starter, which then ends its children
        )
    theirs.close()
    return Child(process, ours, log)


def end_with_starter(last: Callable[[], object] = lambda: None) -> None:
    """Let this process end when its starter is gone, after a last act."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        last()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def told(code: int) -> str:
    """Return how a process ended, by its exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
