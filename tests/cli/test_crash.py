"""A bug inside the screens ends them with a sentence, and the details in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.pseudo_terminal import PseudoTerminal

pytestmark = pytest.mark.slow

BROKEN = """
import sys
from prefscope.cli import main
from prefscope.tui.panes.pair import PairPane

def fail(self):
    raise {error}

PairPane.draw = fail
main(sys.argv[1:])
"""


def crash(tmp_path: Path, environment: dict[str, str], error: str) -> tuple[int, list[str]]:
    """Open the Pair screen of the demo, whose drawing raises an error; return the exit code and what is printed."""
    script = tmp_path / "broken.py"
    script.write_text(BROKEN.format(error=error))
    terminal = PseudoTerminal(["demo"], environment | {"XDG_STATE_HOME": str(tmp_path / "state")}, (str(script),))
    terminal.wait_to_show("accuracy")
    terminal.press("3")
    code = terminal.end()
    left = terminal.written.rpartition(b"\x1b[?1049l")[2].decode()
    return code, [line for line in left.split("\r\n") if "prefscope:" in line or "Traceback" in line or "│" in line]


def test_a_bug_in_the_screens_is_a_sentence_with_its_log_and_exits_with_70(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    code, lines = crash(tmp_path, environment, "ZeroDivisionError('a secret of the pair')")
    log = tmp_path / "state" / "prefscope" / "log" / "error.log"
    assert code == 70
    assert len(lines) == 1
    assert lines[0].endswith(f"prefscope: A bug in prefscope: ZeroDivisionError. Please report it with {log}")
    assert "a secret of the pair" in log.read_text()


def test_an_expected_error_in_the_screens_is_reported_as_on_the_command_line(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    error = "__import__('prefscope.errors', fromlist=['x']).LedgerError('The file changed', where='x.parquet')"
    code, lines = crash(tmp_path, environment, error)
    assert code == 2
    assert [line.rpartition("prefscope: ")[2] for line in lines] == ["x.parquet: the file changed."]
