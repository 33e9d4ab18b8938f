"""The process that scores the checkpoints of a training while the screens show them.

This module does not use widgets.
"""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prefscope.subprocesses import Child

SECONDS_TO_STOP = 5.0
MOST_WORDS = 2_000
"""Characters of the end of its log that are shown."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """A process that watches the folder of a training's checkpoints."""

    checkpoints: Path
    """The folder, which may not exist yet."""
    child: Child

    @property
    def failure(self) -> str | None:
        """The last line that it wrote before it failed; None while it watches, or if it was stopped."""
        code = self.child.process.poll()
        if not code:
            return None
        lines = self.log.splitlines()
        return lines[-1] if lines else f"exit code {code}"

    @property
    def log(self) -> str:
        """The end of what it has written: notes, and errors; untrusted text."""
        with suppress(OSError):
            if self.child.log is not None:
                return self.child.log.read_text(encoding="utf-8", errors="replace")[-MOST_WORDS:].strip()
        return ""

    def stop(self) -> None:
        """End the process; what it has scored stays."""
        with suppress(subprocess.TimeoutExpired, OSError):
            self.child.process.send_signal(signal.SIGTERM)
            self.child.process.wait(SECONDS_TO_STOP)
        self.child.end(keep_log=False)
