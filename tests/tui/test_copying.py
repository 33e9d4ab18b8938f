"""Copying with y, and its notification."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.tui.terminal import Terminal

Show = Callable[..., Terminal]


@pytest.mark.parametrize(
    ("pane", "begins", "told"),
    [
        ("1", "accuracy: 91.2% (86–95) (", "Copied: the figures"),
        ("2", "41d8fc46fd51ad6e", "Copied: 41d8fc46fd51ad6e"),
        ("3", "41d8fc46fd51ad6e", "Copied: 41d8fc46fd51ad6e"),
        ("4", " ", "Copied: the figures"),
        ("6", "Reference: 91.2% (86–95) right. Policy and ref", "Copied: the findings"),
    ],
)
def test_y_copies_the_content_of_a_screen(show_app: Show, pane: str, begins: str, told: str) -> None:
    terminal = show_app()
    terminal.press(pane, "y")
    assert terminal.app.clipboard.startswith(begins)
    assert told in terminal.text


def test_a_tmux_user_is_told_which_setting_copying_needs(show_app: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX", "/tmp/tmux-0/default,1,0")  # noqa: S108 (a name alone)
    terminal = show_app((120, 36))
    terminal.press("2", "y")
    assert "tmux needs: set -g set-clipboard on" in terminal.text
