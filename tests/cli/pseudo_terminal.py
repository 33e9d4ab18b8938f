"""Run the program on a pseudo-terminal, and read what it writes and what the terminal shows."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable

import pyte

SECONDS = 60  # a screen that does not come by then never comes
REST = 0.05
"""Seconds after which a paint is over."""
ANSWER = 0.5
"""Seconds after which a key is taken as one that changes nothing on the screen."""
KEYS = {
    "escape": "\x1b[27u",  # unlike a lone ESC, recognised without a wait for the rest of a sequence
    "enter": "\r",
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "slash": "/",
    "question_mark": "?",
    "space": " ",
}


class PseudoTerminal:
    """The program on a terminal of 80 × 24 cells."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], program: tuple[str, ...] = ("-m", "prefscope")
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, *program, *arguments]
        environment = environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.written = b""
        self._screen = pyte.Screen(80, 24)
        self._emulator = pyte.ByteStream(self._screen)

    @property
    def cells(self) -> list[list[str]]:
        """What each cell of the emulated terminal shows; the second half of a wide character is empty."""
        return [[self._screen.buffer[y][x].data for x in range(80)] for y in range(24)]

    @property
    def lines(self) -> list[str]:
        """What an emulated terminal shows by now."""
        return ["".join(line) for line in self.cells]

    def wait_for(self, text: str) -> None:
        """Read until a text was painted."""
        self._read_until(lambda: text.encode() in self.written)
        assert text.encode() in self.written, self.written[-2000:].decode(errors="replace")

    def wait_to_show(self, text: str) -> None:
        """Read until an emulated terminal shows a text, and on while more is painted."""
        self._read_until(lambda: text in "\n".join(self.lines) and self._rests())
        assert text in "\n".join(self.lines), ascii("\n".join(self.lines))

    def press(self, *keys: str) -> None:
        """Send keys, each when the screen has answered the one before and rests, as a person does."""
        for key in keys:
            os.write(self._ours, KEYS.get(key, key).encode())
            select.select([self._ours], [], [], ANSWER)
            self._read_until(self._rests)

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        self._read_until(lambda: False)
        os.close(self._ours)
        return self.process.wait(SECONDS)

    def hang_up(self) -> None:
        """Take the terminal away, as a connection that breaks does."""
        os.close(self._ours)

    def _rests(self) -> bool:
        return not select.select([self._ours], [], [], REST)[0]

    def _read_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition() and time.monotonic() < deadline:
            if select.select([self._ours], [], [], 0.2)[0]:
                try:
                    read = os.read(self._ours, 65536)
                except OSError:  # the program has ended
                    break
                self.written += read
                self._emulator.feed(read)
