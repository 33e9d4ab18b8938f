"""The command palette: what it lists on each screen, and what its commands do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.command import CommandList, CommandPalette

from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session, Sort
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

Show = Callable[..., Terminal]


def ask(terminal: Terminal, text: str) -> None:
    """Run the first command that matches a text."""
    terminal.press("ctrl+p")
    terminal.type(text)
    terminal.wait_for(lambda: bool(listed(terminal)))
    terminal.press("enter")
    terminal.wait_for(lambda: not isinstance(terminal.app.screen, CommandPalette))
    terminal.rest()


def listed(terminal: Terminal) -> list[str]:
    """Return the names of the listed commands."""
    options = terminal.app.screen.query_one(CommandList).options
    return [str(option.prompt).partition("\n")[0] for option in options]


def every_command(terminal: Terminal) -> list[str]:
    terminal.press("ctrl+p")
    terminal.finish()
    found = listed(terminal)
    terminal.press("escape")
    return found


def test_every_kind_of_command_is_listed_once(show_app: Show) -> None:
    terminal = show_app()
    terminal.press("2")
    found = every_command(terminal)
    expected = {
        "pairs: Sort",
        "prefscope: Export",
        "prefscope: Quit",
        "screen: What-if",
        "filter: ranked wrong",
        "sort: margin lowest first",
        "loss: simpo",
        "columns: hide len_c",
        "theme: prefscope-light",
        "palette: mono",
        "screenshot: save",
    }
    assert expected <= set(found)
    assert len(set(found)) == len(found)


def test_commands_follow_the_screen(show_app: Show) -> None:
    terminal = show_app()
    terminal.press("3")
    on_pair = every_command(terminal)
    terminal.press("e")
    in_dialog = every_command(terminal)
    assert "pair: Diff" in on_pair
    assert "pairs: Sort" not in on_pair
    assert "dialog: Export" in in_dialog
    assert not any(name.startswith(("pair:", "filter:", "sort:")) for name in in_dialog)


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("filter: tied", lambda session: session.expression == "margin == 0"),
        ("sort: margin low", lambda session: session.sort == Sort("margins", descending=False)),
        ("columns: hide len_c", lambda session: "chosen_num_tokens" not in session.columns),
    ],
    ids=["filter", "sort", "columns"],
)
def test_a_command_changes_the_pairs(
    show_app: Show, demo: Session, text: str, changed: Callable[[Session], bool]
) -> None:
    terminal = show_app()
    ask(terminal, text)
    assert changed(demo)


def test_a_loss_is_shown_in_what_if(show_app: Show) -> None:
    terminal = show_app()
    ask(terminal, "loss: simpo")
    assert "mean simpo loss ↑ against beta" in terminal.text


def test_the_action_of_a_key_runs_where_the_focus_was(show_app: Show, demo: Session) -> None:
    terminal = show_app()
    terminal.press("2", "j", "j")
    ask(terminal, "pairs: mark")
    assert demo.mark_of(2).decision == "keep"


def test_a_screenshot_is_written_to_the_working_folder(
    show_app: Show, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    terminal = show_app()
    ask(terminal, "screenshot")
    terminal.wait_for(lambda: "Screenshot:" in terminal.text)
    (picture,) = tmp_path.glob("prefscope-*.svg")
    assert "accuracy" in picture.read_text()


def test_a_hostile_column_is_listed_literally(tmp_path: Path) -> None:
    session = write_pairs(tmp_path / "x.parquet", [{}], extra={"[/b]\x1b[2J": ("text", ["a"])})
    with Terminal(PrefscopeApp(session)) as terminal:
        terminal.press("ctrl+p")
        terminal.type("[/b]")
        terminal.finish()
        assert "columns: show [/b]␛[2J" in terminal.text
