"""A whole session in a real terminal, from the load screen to a file that equals the command line's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")]
SECONDS = 120
WHERE, BETA = "margin > 0", "0.15"


class Tmux:
    """The program in a window of a tmux server of its own."""

    def __init__(self, folder: Path, home: dict[str, str]) -> None:
        self._call = ["tmux", "-L", f"prefscope-{os.getpid()}", "-f", "/dev/null"]
        command = [*(f"{name}={value}" for name, value in home.items()), sys.executable, "-m", "prefscope"]
        self._run("new-session", "-d", "-x", "120", "-y", "36", "-c", str(folder), "env", *command)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([*self._call, *arguments], capture_output=True, check=False, text=True)
        return done.stdout

    def press(self, *keys: str) -> None:
        """Send keys by the names that tmux has for them."""
        self._run("send-keys", *keys)

    def type(self, text: str) -> None:
        """Send a text."""
        self._run("send-keys", "-l", text)

    @property
    def text(self) -> str:
        """What the window shows, empty when the program has ended."""
        return self._run("capture-pane", "-p")

    def wait_for(self, text: str, *, seconds: float = SECONDS) -> None:
        """Wait until a text is shown, with the screen at rest."""
        end = time.monotonic() + seconds
        previous = ""
        while time.monotonic() < end:
            shown = self.text
            if text in shown and shown == previous:
                return
            previous = shown
            time.sleep(0.07)
        raise AssertionError(f"{text!r} was not shown:\n{previous}")

    def ends(self) -> bool:
        """Return whether the program ends."""
        end = time.monotonic() + SECONDS
        while self.text and time.monotonic() < end:
            time.sleep(0.1)
        return not self.text

    def close(self) -> None:
        """End the server."""
        self._run("kill-server")


def folders(root: Path) -> dict[str, str]:
    """Return an environment of empty folders of a user."""
    names = {f"XDG_{name}_HOME": name.lower() for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    return {"HOME": str(root), **{variable: str(root / name) for variable, name in names.items()}}


@pytest.fixture(name="tmux")
def _tmux(tmp_path: Path) -> Iterator[Tmux]:
    found = Tmux(tmp_path, folders(tmp_path / "screens"))
    yield found
    found.close()


def test_a_file_exported_from_the_screens_equals_that_of_the_command_line(
    tmux: Tmux, tmp_path: Path, samples: Path, environment: dict[str, str]
) -> None:
    tmux.wait_for("open or score")
    tmux.type(str(samples / "pairs.jsonl"))
    tmux.wait_for("170 pairs")
    tmux.press("C-j")  # what terminals send for ctrl+enter, if they send anything of its own
    tmux.wait_for("Scored 170 pairs")
    tmux.press("4")
    tmux.wait_for("no knob changes it")
    tmux.press("]", "]")
    tmux.wait_for(f"{BETA} *")
    tmux.press("2")
    tmux.wait_for("words to find")
    tmux.press("/")
    tmux.wait_for("Complete")
    tmux.type(WHERE)
    tmux.wait_for("acc 100%")
    tmux.press("Enter")
    tmux.wait_for("Next wrong")
    tmux.press("Enter")
    tmux.wait_for("Ranked right")
    tmux.press("e")
    tmux.wait_for("in ledger order")
    tmux.press("C-a", "C-k")
    tmux.wait_for("Enter a file name")
    tmux.type(str(tmp_path / "screens.csv"))
    tmux.wait_for("/screens.csv")
    tmux.press("Enter")
    tmux.wait_for("pairs →")
    tmux.press("q")
    assert tmux.ends()

    alone = environment | folders(tmp_path / "alone")
    ledger = tmp_path / "ledger.parquet"
    score = ["score", str(samples / "pairs.jsonl"), "-o", str(ledger)]
    export = ["export", str(ledger), "--where", WHERE, "--beta", BETA, "-o", str(tmp_path / "alone.csv")]
    for arguments in (score, export):
        subprocess.run([sys.executable, "-m", "prefscope", *arguments], env=alone, check=True, capture_output=True)
    assert (tmp_path / "screens.csv").read_bytes() == (tmp_path / "alone.csv").read_bytes()
