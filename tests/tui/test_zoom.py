"""Any plot or pane can fill the screen, and gives way to what was there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from prefscope.tui.model.session import Session
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

Show = Callable[..., Terminal]


@pytest.mark.parametrize("keys", [["1"], ["1", "tab"], ["2"], ["4", "tab"], ["4", "tab", "tab"], ["6"]])
@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
def test_what_has_the_focus_fills_the_screen_until_z_or_escape(
    show_app: Show, size: tuple[int, int], keys: list[str]
) -> None:
    terminal = show_app(size)
    terminal.press(*keys)
    before, focused = terminal.text, terminal.app.focused
    assert focused is not None
    for restore in ("z", "escape"):
        terminal.press("z")
        assert focused.size.width >= size[0] - 2
        assert focused.size.height >= size[1] - 4
        assert terminal.widths == {size[0]}
        terminal.press(restore)
        assert terminal.text == before


def test_another_screen_is_shown_as_usual_while_a_plot_is_maximised(show_app: Show) -> None:
    terminal = show_app((120, 36))
    terminal.press("4")
    expected = terminal.text
    terminal.press("1", "z", "4")
    assert terminal.text == expected


def test_escape_restores_a_plot_before_it_widens_the_scope(show_app: Show, demo: Session) -> None:
    demo.narrow("margin < 0")
    terminal = show_app((120, 36))
    terminal.press("1", "z", "escape")
    assert demo.expression == "margin < 0"
    terminal.press("escape")
    assert demo.expression == ""
