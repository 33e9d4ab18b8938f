"""`prefscope view` and `demo`: on a real pseudo-terminal, and a clear word where there is none."""

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
from pathlib import Path

import pytest

from tests.tui.pairs_app import write_pairs

SECONDS = 60  # a screen that does not come by then never comes


class Screen:
    """The program on a pseudo-terminal."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, "-m", "prefscope", *arguments]
        environment = environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
        )
        os.close(theirs)
        self.written = b""

    def wait_for(self, text: str) -> None:
        """Read until a text was painted."""
        deadline = time.monotonic() + SECONDS
        while text.encode() not in self.written and time.monotonic() < deadline:
            if select.select([self._ours], [], [], 0.2)[0]:
                try:
                    self.written += os.read(self._ours, 65536)
                except OSError:  # the program has ended
                    break
        assert text.encode() in self.written, self.written[-2000:].decode(errors="replace")

    def press(self, keys: str) -> None:
        """Send keys."""
        os.write(self._ours, keys.encode())

    def end(self) -> int:
        """Wait for the end and return the exit code."""
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self._ours], [], [], 0.2)[0]:
                try:
                    self.written += os.read(self._ours, 65536)
                except OSError:
                    break
        os.close(self._ours)
        return self.process.wait(SECONDS)

    def hang_up(self) -> None:
        """Take the terminal away, as a connection that breaks does."""
        os.close(self._ours)


@pytest.fixture
def home(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environment | {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("CACHE", "CONFIG", "DATA", "STATE")}


def test_the_demo_is_painted_and_q_ends_it(home: dict[str, str]) -> None:
    screen = Screen(["demo"], home)
    screen.wait_for("91.2%")
    screen.press("2")
    screen.wait_for("margin_b")
    screen.press("q")
    assert screen.end() == 0


def test_a_ledger_is_painted_with_the_knobs_given(home: dict[str, str], ledger: Path) -> None:
    screen = Screen(["view", str(ledger), "--beta", "0.3", "--ascii"], home)
    screen.wait_for("b=0.3")
    screen.press("q")
    assert screen.end() == 0
    assert "β".encode() not in screen.written


@pytest.mark.parametrize("command", ["view", "demo"])
def test_without_a_terminal_the_report_is_named(
    program: Callable[..., tuple[int, str, str]], ledger: Path, command: str
) -> None:
    code, out, told = program(command, *([ledger] if command == "view" else []))
    assert (code, out) == (2, "")
    assert told.startswith("prefscope: The screens need a terminal. For a pipe or a file: prefscope report ")


def test_what_is_no_ledger_is_said_before_the_screen_is_taken(home: dict[str, str], samples: Path) -> None:
    screen = Screen(["view", str(samples / "pairs.jsonl")], home)
    assert screen.end() == 2
    assert b"not a whole Parquet file" in screen.written
    assert b"\x1b[?1049h" not in screen.written


def test_ledgers_of_the_same_pairs_are_compared(home: dict[str, str], samples: Path) -> None:
    screen = Screen(["view", *(str(samples / name) for name in ("demo-early.parquet", "demo.parquet"))], home)
    screen.wait_for("74.1%")
    screen.press("5")
    screen.wait_for("McNemar")
    screen.press("q")
    assert screen.end() == 0


def test_the_look_of_the_screens_comes_from_the_settings_file(home: dict[str, str]) -> None:
    Path("prefscope.toml").write_text('theme = "nord"\nascii = true\n[demo]\npalette = "mono"\n[keys]\nquit = "Q"\n')
    screen = Screen(["demo"], home)
    screen.wait_for("91.2%")
    screen.press("Q")
    assert screen.end() == 0
    assert "β".encode() not in screen.written
    assert b"46;52;64" in screen.written  # nord's background
    assert b"228;230;232" in screen.written  # what is positive, without colours


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[keys]\npairs-sart = "f5"\n', "there is no key 'pairs-sart' to set. Near are 'pairs-sort'"),
        ('[keys]\npairs-sort = "e"\n', "pairs-sort and export would have the same key 'e'"),
        ('theme = "nord2"\n', "There is no theme 'nord2'. Did you mean 'nord'?"),
        ('palette = "beige"\n', "'beige' is not one of 'sky-orange', 'blue-red', 'mono'"),
        ('keys = "f5"\n', "'keys' is to be a table"),
    ],
    ids=["unknown key", "clash", "theme", "palette", "no table"],
)
def test_a_mistake_in_the_settings_file_is_told_before_the_screen_is_taken(
    home: dict[str, str], text: str, told: str
) -> None:
    Path("prefscope.toml").write_text(text)
    screen = Screen(["demo"], home)
    assert screen.end() == 2
    assert told.encode() in b" ".join(screen.written.split())
    assert b"\x1b[?1049h" not in screen.written


def test_an_option_goes_before_the_environment_and_that_before_the_settings_file(home: dict[str, str]) -> None:
    Path("prefscope.toml").write_text('theme = "nord"\n')
    for options, background in (([], b"40;42;54"), (["--theme", "prefscope-light"], b"250;250;250")):
        screen = Screen(["demo", *options], home | {"PREFSCOPE_THEME": "dracula"})
        screen.wait_for("Quit")
        screen.press("q")
        assert screen.end() == 0
        assert background in screen.written


def test_a_ledger_given_twice_is_refused_before_the_screen_is_taken(home: dict[str, str], samples: Path) -> None:
    screen = Screen(["view", str(samples / "demo.parquet"), str(samples / "." / "demo.parquet")], home)
    assert screen.end() == 2
    assert b"this ledger is given twice. Give each ledger once." in screen.written
    assert b"\x1b[?1049h" not in screen.written


def test_a_loss_that_a_ledger_cannot_give_is_told_before_the_screen_is_taken(
    home: dict[str, str], ledger: Path, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "free.parquet", [{}], has_reference=False)
    screen = Screen(["view", str(ledger), str(tmp_path / "free.parquet"), "--loss", "dpo"], home)
    assert screen.end() == 2
    assert b"free.parquet: loss dpo needs a reference, and this ledger has none." in b" ".join(screen.written.split())
    assert b"\x1b[?1049h" not in screen.written


def test_a_terminal_that_goes_away_ends_the_program(home: dict[str, str]) -> None:
    screen = Screen(["demo"], home)
    screen.wait_for("accuracy")
    screen.hang_up()
    screen.process.wait(SECONDS)
