"""Every screen and dialog of the demo ledger matches its golden file."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from prefscope.tui.screens.error import ErrorScreen
from tests.tui.terminal import Terminal, assert_golden

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
SCREENS = {
    "overview": ["1", "right", "right"],
    "overview-turned": ["1", "p"],
    "what-if": ["4", "right_square_bracket", "L"],
    "health": ["6"],
    "health-clean": ["6", "v"],
    "health-subsets": ["6", "b", "down", "enter"],
    "group-by": ["6", "b"],
    "quick-filters": ["2", "f", "down"],
    "top-tokens": ["3", "t"],
    "texts": ["3", "p", "tab", "tab", "tab", "tab"],
    "note": ["2", "m", *"label flipped?"],
    "help": ["2", "question_mark"],
    "filter-wrong": ["2", "slash", *"margin < nothing"],
}


@SIZES
@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_of_the_demo_matches_its_golden_file(demo: Session, name: str, size: tuple[int, int]) -> None:
    with Terminal(PrefscopeApp(demo), size) as terminal:
        terminal.press(*SCREENS[name])
        terminal.sleep(0.1)
        assert_golden(terminal, name)


@SIZES
def test_the_load_screen_matches_its_golden_file(
    size: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with Terminal(PrefscopeApp(None), size) as terminal:
        terminal.sleep(0.3)
        assert_golden(terminal, "load")


@SIZES
def test_the_error_screen_matches_its_golden_file(demo: Session, size: tuple[int, int]) -> None:
    message = "The policy and the reference have different tokenizers: id 32000 is <pad> in one and <s> in the other."
    screen = ErrorScreen("Scoring stopped", message, advice="What was scored is kept: x tries again.", log="one\ntwo")
    with Terminal(PrefscopeApp(demo), size) as terminal:
        terminal.app.call_later(terminal.app.push_screen, screen)
        terminal.sleep(0.1)
        assert_golden(terminal, "error")
