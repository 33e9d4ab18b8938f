"""Hostile ledgers on every screen and dialog of the real program do not control the terminal."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass

import pytest

from prefscope.tui.model.state import Opened, Remembered, remember
from tests.cli.pseudo_terminal import PseudoTerminal
from tests.tui.hostile import DANGEROUS, FILE, MARKER, PAYLOADS, STEPS, write_hostile

pytestmark = pytest.mark.slow

CONTROL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]P^_X].*?(?:\x07|\x1b\\)|[ -/]*[0-~])", re.DOTALL)


@dataclass(frozen=True)
class Visit:
    """A walk through all screens."""

    code: int
    controls: list[str]
    """Control sequences that the program wrote."""
    text: str
    """What it wrote besides."""
    table: list[list[str]]
    """The cells of the table of pairs, as an emulated terminal shows them."""


@pytest.fixture(name="visit", scope="module")
def _visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    folder = tmp_path_factory.mktemp("hostile")
    paths = [write_hostile(folder / f"{FILE}{worse}.parquet", worse=worse) for worse in (0.0, 0.7)]
    names = ("CACHE", "CONFIG", "DATA", "STATE")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setenv(f"XDG_{name}_HOME", str(folder / name))
        remember(Remembered(opened=tuple(Opened(text, text, text) for text in list(PAYLOADS.values())[:8])))
        terminal = PseudoTerminal(["view", *map(str, paths)], dict(os.environ))
    table: list[list[str]] = []
    for step in STEPS:
        terminal.press(*step.keys)
        terminal.wait_to_show(step.seen)
        if step.seen == "▶  15 www":
            table = terminal.cells[2:19]
    terminal.press("q")
    code = terminal.end()
    written = terminal.written.decode()
    return Visit(code, CONTROL.findall(written), CONTROL.sub("", written), table)


def test_the_program_ends_cleanly(visit: Visit) -> None:
    assert visit.code == 0
    assert "Traceback" not in visit.text


def test_no_control_sequence_is_of_the_data(visit: Visit) -> None:
    assert len(visit.controls) > 1000
    assert [control for control in visit.controls if MARKER in control and not control.startswith("\x1b]52;")] == []
    assert "\x1b[2J" not in visit.controls


def test_the_only_commands_to_the_system_are_the_requested_copies(visit: Visit) -> None:
    commands = {control for control in visit.controls if control[1] in "]P^_X"}
    copies = [control for control in visit.controls if control.startswith("\x1b]52;c;")]
    assert commands - {"\x1b]22;default\x07"} == set(copies)  # Textual's own sets the shape of the mouse
    texts = [base64.b64decode(copy[7:-1]).decode() for copy in copies]
    assert texts[0] == PAYLOADS["clear"]
    assert texts[1] == f"0{PAYLOADS['clear'][:40]}"
    assert texts[2].startswith("prefscope curate ")
    assert len(texts) == 3


def test_no_character_is_written_that_a_terminal_obeys_or_hides(visit: Visit) -> None:
    assert set(visit.text.replace("\r\n", "")) & DANGEROUS == set()  # these end lines of a whole paint


def test_table_columns_are_below_their_titles_for_any_text(visit: Visit) -> None:
    title, *rows = visit.table
    end = "".join(title).index(" dpo m") + len(" dpo")
    losses = ["".join(row[end - 6 : end]) for row in rows]
    assert [bool(re.fullmatch(r" \d\.\d{3}", loss)) for loss in losses] == [True] * 16, losses
