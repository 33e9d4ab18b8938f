"""The scatter plots of the Overview: a box of cells, by keys or mouse, becomes the scope."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from prefscope.tui.model.session import Session
from prefscope.tui.widgets.scatter import Scatter
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

Show = Callable[..., Terminal]


@pytest.fixture
def terminal(show_app: Show) -> Terminal:
    terminal = show_app((120, 36))
    terminal.app.screen.query_one("#lengths", Scatter).focus()
    terminal.rest()
    return terminal


def scatter(terminal: Terminal) -> Scatter:
    return terminal.app.screen.query_one("#lengths", Scatter)


def counted(terminal: Terminal) -> int:
    return int(str(scatter(terminal).border_subtitle).split(maxsplit=1)[0].replace(",", ""))


def test_the_pairs_of_a_box_become_the_scope(terminal: Terminal, demo: Session) -> None:
    terminal.press("right", *["shift+right"] * 4, *["shift+down"] * 3)
    count, limits = counted(terminal), scatter(terminal).limits
    assert limits is not None
    (low, high), (below, above) = limits
    terminal.press("enter")
    assert demo.order.size == count > 5
    longer = demo.view.column("chosen_num_tokens") - demo.view.column("rejected_num_tokens")
    margins = demo.view.column("margins")
    expected = (longer >= low) & (longer < high) & (margins >= below) & (margins < above)
    assert np.array_equal(np.sort(demo.order), np.flatnonzero(expected))


def test_a_box_over_the_whole_frame_has_every_pair_but_those_beyond_it(terminal: Terminal) -> None:
    plot = scatter(terminal)
    terminal.press(*["left"] * 60, *["up"] * 20, *["shift+right"] * 60, *["shift+down"] * 20)
    points = plot.points
    inside = (points.across[0] <= points.x) & (points.x <= points.across[1])
    inside &= (points.up[0] <= points.y) & (points.y <= points.up[1])
    assert counted(terminal) == inside.sum() < 170


def test_a_box_is_drawn_with_the_mouse(terminal: Terminal, demo: Session) -> None:
    plot = scatter(terminal)
    terminal.drag("#lengths", (20, 3), (40, 9))
    assert plot.box is not None
    (left, top), (right, bottom) = plot.box
    assert (right - left, bottom - top) == (20, 6)
    terminal.press("enter")
    assert 0 < demo.order.size < 170


def test_escape_removes_the_box_before_it_widens_the_scope(terminal: Terminal, demo: Session) -> None:
    terminal.press("2", "slash")
    terminal.type("margin > 0")
    terminal.press("enter", "1")
    plot = scatter(terminal)
    plot.focus()
    terminal.press("right", "escape")
    assert plot.box is None
    assert demo.expression == "margin > 0"
    terminal.press("escape")
    assert demo.expression == ""


def test_the_box_is_removed_when_its_pairs_change(terminal: Terminal, demo: Session) -> None:
    terminal.press("right", "4", "right_square_bracket", "1")
    assert scatter(terminal).box is None
    assert demo.preferences.beta != 0.1
