"""The footer: which keys it shows, which it leaves out, and a click on one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from prefscope.tui.dialogs.export import ExportDialog
from prefscope.tui.model.session import Session
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

Show = Callable[..., Terminal]
AT_THE_END = "? Help  q Quit"


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 36), (200, 50)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("pane", "123456")
def test_help_and_quit_are_at_the_right_and_no_word_is_cut(show_app: Show, size: tuple[int, int], pane: str) -> None:
    terminal = show_app(size)
    terminal.press(pane)
    line = terminal.lines[-1]
    keys = [binding.binding.description for binding in terminal.app.screen.active_bindings.values()]
    assert line.endswith(AT_THE_END)
    assert len(line) == size[0] - 1
    told = line.removesuffix(AT_THE_END).split("  ")
    assert all(part.strip().partition(" ")[2].removeprefix("] ") in keys for part in told if part.strip())


def test_keys_are_left_out_from_the_right(show_app: Show) -> None:
    terminal = show_app((80, 24))
    terminal.press("2")
    assert terminal.lines[-1].startswith(" enter Open  n Next wrong  s Sort  space Mark  / Filter ")
    terminal.resize(60, 16)
    assert terminal.lines[-1] == " enter Open  n Next wrong  s Sort            ? Help  q Quit"
    terminal.resize(120, 36)
    assert " c Columns  e Export " in terminal.lines[-1]


def test_the_keys_are_those_of_the_focused_widget(show_app: Show) -> None:
    terminal = show_app((80, 24))
    terminal.press("2", "slash")
    assert terminal.lines[-1].split("  ")[0] == " tab Complete"
    assert "/ Filter" not in terminal.lines[-1]
    assert terminal.lines[-1].endswith("f1 Help")  # ? and q would be typed
    terminal.press("escape")
    assert terminal.lines[-1].endswith(AT_THE_END)


def test_a_dialog_shows_only_its_own_keys(show_app: Show) -> None:
    terminal = show_app((80, 24))
    terminal.press("2", "f")
    assert terminal.lines[-1].split() == ["esc", "Back"]


def test_a_click_presses_the_key(show_app: Show, demo: Session) -> None:
    terminal = show_app((80, 24))
    terminal.press("2", "j")
    terminal.click_text("space Mark")
    assert demo.mark_of(1).decision == "keep"
    terminal.press("6")
    terminal.click_text("Export")
    assert isinstance(terminal.app.screen, ExportDialog)
    terminal.click_text("esc Back")
    assert not isinstance(terminal.app.screen, ExportDialog)
