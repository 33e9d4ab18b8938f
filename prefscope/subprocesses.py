"""Child processes of this program, connected by a socket, with a log for their output.

A child exits when its parent is gone, which it detects by the end of its stdin.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from prefscope.environment import quieted
from prefscope.private import make_folder, open_file


@dataclass(frozen=True, slots=True)
class Child:
    """A child process and the parent's end of its socket."""

    process: subprocess.Popen[bytes]
    connection: Connection
    log: Path | None
    """File for its output; None: the output of its parent."""

    @property
    def where(self) -> str:
        """The log's path; empty if there is no output."""
        return str(self.log) if self.log is not None and self.log.is_file() and self.log.stat().st_size else ""

    def end(self, *, keep_log: bool = True) -> int:
        """Kill the process and return its exit code; an empty or unwanted log is deleted."""
        self.connection.close()
        self.process.kill()
        code = self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.log is not None and not (keep_log and self.where):
            self.log.unlink(missing_ok=True)
        return code


def module_command(name: str) -> tuple[str, ...]:
    """Return the command that runs a module of this program in a child process.

    With -P, Python imports nothing from the working folder, where a download may have put a torch.py.
    """
    return (sys.executable, "-P", "-m", name)


def start_child(
    command: Sequence[str],
    log: Path | None,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Child:
    """Start a child process.

    Args:
        command: The command to run; the file descriptor of its end of the socket is appended.
        log: File to which its output is appended; None: the output of this process.
        arguments: Additional arguments, after the descriptor.
        environment: Environment variables; None: those of this process.
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
            env=quieted(os.environ if environment is None else environment),
            start_new_session=True,  # ctrl+C only reaches the parent, which then ends its children
        )
    theirs.close()
    return Child(process, ours, log)


def end_with_starter(last: Callable[[], object] = lambda: None) -> None:
    """Exit this process when its parent is gone, after calling `last`."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        last()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


def describe_exit(code: int) -> str:
    """Describe how a process ended, from its exit code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
