"""`o` shows a text in the user's pager on a real terminal, and comes back; the copy is private, safe and removed."""

from __future__ import annotations

import ast
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.pseudo_terminal import PseudoTerminal

pytestmark = pytest.mark.slow

REPORT = """
import pathlib, stat, sys
path = pathlib.Path(sys.argv[1])
modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)]
pathlib.Path({log!r}).write_text(repr((str(path), modes, path.read_text())))
print("shown by the pager", flush=True)
sys.stdin.readline()
sys.exit({code})
"""


@pytest.fixture
def pager_script(tmp_path: Path) -> Callable[[int], str]:
    """Return a function that writes a pager which reports its file, waits for enter, and exits with a code."""

    def write(code: int) -> str:
        script = tmp_path / "pager.py"
        script.write_text(REPORT.format(log=str(tmp_path / "log"), code=code))
        return f"{sys.executable} {script}"

    return write


@pytest.fixture
def open_demo(environment: dict[str, str]) -> Iterator[Callable[[str], PseudoTerminal]]:
    """Return a function that opens a pair of the demo on a pseudo-terminal, with a pager."""
    opened: list[PseudoTerminal] = []

    def show(command: str) -> PseudoTerminal:
        terminal = PseudoTerminal(["demo"], environment | {"PAGER": command})
        opened.append(terminal)
        terminal.wait_to_show("accuracy")
        terminal.press("3")
        terminal.wait_to_show("Why does this Python")
        return terminal

    yield show
    for terminal in opened:
        terminal.press("q")
        assert terminal.end() == 0


@pytest.mark.parametrize(("key", "name"), [("o", "chosen"), ("O", "prompt")])
def test_a_text_is_shown_in_the_pager_as_a_private_copy_that_is_removed(
    open_demo: Callable[[str], PseudoTerminal],
    pager_script: Callable[[int], str],
    tmp_path: Path,
    key: str,
    name: str,
) -> None:
    terminal = open_demo(pager_script(0))
    terminal.press(key)
    terminal.wait_for("shown by the pager")
    path, modes, text = ast.literal_eval((tmp_path / "log").read_text())
    assert Path(path).name == f"row-0-{name}.txt"
    assert modes == [stat.S_IRUSR, stat.S_IRWXU]
    assert ("The default list" in text) == (name == "chosen")
    terminal.press("enter")
    terminal.wait_to_show("Why does this Python")
    assert not Path(path).parent.exists()


def test_a_pager_that_fails_is_reported(
    open_demo: Callable[[str], PseudoTerminal], pager_script: Callable[[int], str]
) -> None:
    terminal = open_demo(pager_script(3))
    terminal.press("o")
    terminal.wait_for("shown by the pager")
    terminal.press("enter")
    terminal.wait_to_show("ended with exit code 3")
