"""The dialog that chooses the columns of the table of pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefscope.tui.model.session import Session
from prefscope.tui.model.state import Remembered, recall, remember
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal

Show = Callable[..., Terminal]


def header(terminal: Terminal) -> list[str]:
    """Return the titles of the shown columns."""
    return next(line for line in terminal.lines if line.lstrip().startswith("#")).partition("│")[0].split()


def test_the_dialog_ticks_the_shown_columns_and_explains_each(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo)
    terminal.press("c")
    assert "[x] margin             chosen_rewards − rejected_rewards" in terminal.text
    assert "[ ] logp_c             Σ log π(chosen token)" in terminal.text


def test_chosen_columns_are_shown_in_their_order_and_remembered(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo)
    terminal.press("c", "space", "j", "space", "enter")
    assert header(terminal) == ["#▲", "prompt", "margin", "dpo", "ipo", "simpo", "len_c", "len_r", "m"]
    assert recall().columns == demo.columns


def test_columns_that_do_not_fit_are_counted(demo: Session, show_pairs: Show) -> None:
    demo.columns = ("margins", "dpo_loss", "ipo_loss", "simpo_loss", "pair_id", "ref_chosen_logps")
    terminal = show_pairs(demo, (80, 24))
    assert header(terminal) == ["#▲", "prompt", "margin", "dpo", "ipo", "simpo", "pair_id", "m"]
    assert "1 column does not fit" in terminal.text
    terminal.resize(140, 36)
    assert header(terminal) == ["#▲", "prompt", "margin", "dpo", "ipo", "simpo", "pair_id", "ref_c", "m"]
    assert "not fit" not in terminal.text


def test_leaving_the_dialog_changes_nothing(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo)
    before = terminal.text
    terminal.press("c", "space", "escape")
    assert terminal.text == before
    assert recall().columns is None


def test_a_restores_the_automatic_columns(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo)
    before = terminal.text
    terminal.press("c", "space", "enter")
    assert terminal.text != before
    terminal.press("c", "a")
    assert terminal.text == before
    assert recall().columns is None


def test_columns_of_the_data_set_can_be_shown(tmp_path: Path, show_pairs: Show) -> None:
    extra = {"[b]kind\x1b[2J": ("text", ["[/b]\x1b[2J"])}
    session = write_pairs(tmp_path / "own.parquet", [{}], extra=extra)  # type: ignore[arg-type]
    terminal = show_pairs(session, (180, 36))
    terminal.press("c", "end")
    assert "[ ] [b]kind␛[2J        from the data set" in terminal.text
    terminal.press("space", "enter")
    assert "[/b]␛[2J" in terminal.text


def test_a_column_missing_from_this_ledger_stays_chosen_for_others(show_app: Show, demo: Session) -> None:
    remember(Remembered(columns=("margins_b", "margins", "dpo_loss")))
    terminal = show_app()
    terminal.press("2")
    assert header(terminal) == ["#▲", "prompt", "margin", "dpo", "m"]
    terminal.press("c", "space", "enter")
    assert demo.columns == ("chosen_rewards", "margins", "dpo_loss", "margins_b")


def test_the_sort_column_is_shown_even_if_not_chosen(demo: Session, show_pairs: Show) -> None:
    demo.columns = ("margins",)
    terminal = show_pairs(demo)
    terminal.press("c", "space", "escape", ">", ">", "s")
    assert header(terminal) == ["#", "prompt", "margin▲", "m"]
