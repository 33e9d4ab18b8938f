"""The pager and the text that it gets."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from prefscope.tui import pager
from prefscope.tui.pager import find_pager
from tests.tui.terminal import Terminal


def messages(terminal: Terminal) -> list[str]:
    return [one.message for one in terminal.app._notifications]


def test_no_pager_is_reported(show_app: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pager, "USUAL", ())
    for name in pager.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    terminal = show_app()
    terminal.press("3", "o")
    assert messages(terminal) == ["No pager was found: set PAGER or EDITOR."]


def test_a_terminal_that_cannot_be_left_is_reported(
    show_app: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAGER", sys.executable)
    terminal = show_app()
    terminal.press("3", "p", "o")
    assert messages(terminal) == ["This terminal cannot show another program."]


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"PAGER": "python3 -x", "EDITOR": "sh"}, ["python3", "-x"]),
        ({"PAGER": "no-such-pager-here", "EDITOR": "sh -c"}, ["sh", "-c"]),
        ({"PAGER": "'open quote", "EDITOR": "sh"}, ["sh"]),
        ({"PAGER": "", "EDITOR": ""}, []),
    ],
    ids=["pager", "editor", "malformed", "nothing"],
)
def test_the_pager_comes_before_the_editor(
    variables: dict[str, str], found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pager, "USUAL", ())
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_pager() == found


@pytest.mark.parametrize(
    "text", ["# vim: set exrc:", "x\n# -*- mode: hook -*-\ny", "ok\n" * 20 + "/* vi: sw=4 */", "a\x1b[2Jb\u202e"]
)
def test_a_text_gives_an_editor_no_settings_and_a_terminal_no_controls(text: str) -> None:
    lines = pager._page(text).split("\n")
    around = [*lines[: pager.MODELINES], *lines[-pager.MODELINES :]]
    assert not any(word in line for line in around for word in ("vim:", "vi:", "-*-"))
    assert not {"\x1b", "\u202e"} & set("".join(lines))
