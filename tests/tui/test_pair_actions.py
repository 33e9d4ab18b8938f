"""Actions of the table of pairs: sort, mark and copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.marks import load_marks
from prefscope.tui.model.session import Session
from prefscope.tui.panes.pairs import PairsPane
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal, cursor_line, prompts

MARGINS = (0.5, -0.25, 0.0, -1.5, 2.0)
Show = Callable[..., Terminal]


@pytest.fixture
def five(tmp_path: Path) -> Session:
    """Return five pairs: right, wrong, tied, wrong, right."""
    return write_pairs(tmp_path / "five.parquet", [{"margin": margin} for margin in MARGINS])


# Order


def test_a_click_on_a_title_sorts_and_a_second_click_reverses_the_order(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    terminal.click("PairTable", 57, 0)
    assert prompts(terminal) == ["3", "1", "2", "0", "4"]
    assert "margin▲" in terminal.lines[0]
    terminal.click("PairTable", 57, 0)
    assert prompts(terminal) == ["4", "0", "2", "1", "3"]
    assert "margin▼" in terminal.lines[0]


def test_losses_are_sorted_highest_first(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    terminal.press(">", ">", ">", ">", ">", "s")
    assert five.sort.column == "dpo_loss"
    assert prompts(terminal) == ["3", "1", "2", "0", "4"]


def test_the_cursor_stays_on_its_pair_when_the_order_changes(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    terminal.press("down", ">", ">", ">", ">", "s", "s")
    assert prompts(terminal) == ["4", "0", "2", "1", "3"]
    assert cursor_line(terminal).split()[1] == "1"


def test_texts_are_sorted_by_their_first_characters(tmp_path: Path, show_pairs: Show) -> None:
    texts = ["pear", "apple " + "x" * 60_000, "fig"]
    terminal = show_pairs(write_pairs(tmp_path / "texts.parquet", [{"prompt": text} for text in texts]))
    terminal.press(">", "s")
    assert [line[6:10] for line in terminal.lines[1:4]] == ["appl", "fig ", "pear"]


def test_a_data_set_column_is_shown_if_it_is_sorted_by(tmp_path: Path, show_pairs: Show) -> None:
    session = write_pairs(tmp_path / "own.parquet", [{}, {}], extra={"gra\x1bde": ("text", ["b\x1b[31m", "a"])})
    terminal = show_pairs(session)
    session.set_sort(type(session.sort)("gra\x1bde"))
    terminal.app.screen.query_one(PairsPane).show_session()
    terminal.rest()
    assert "gra␛de▲" in terminal.lines[0]
    assert "b␛[31m" in terminal.lines[2]


# Marks


def test_space_cycles_through_keep_drop_swap_and_none(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    shown = []
    for _ in range(4):
        terminal.press("space")
        shown.append(cursor_line(terminal)[6:].split()[-1])
    assert shown == ["✓", "✗", "⇄", "0.474"]


def test_a_mark_is_stored_beside_the_ledger_and_undone_with_u(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    terminal.press("space", "down", "space", "space")
    kept = load_marks(five.ledger.path)
    assert [kept.of(five.key(position)).decision for position in range(3)] == ["keep", "drop", None]
    terminal.press("u")
    assert load_marks(five.ledger.path).of(five.key(1)).decision == "keep"
    terminal.press("u", "u", "u")
    assert len(load_marks(five.ledger.path)) == 0


def test_marks_that_cannot_be_written_are_reported_and_not_kept(
    five: Session, show_pairs: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    terminal = show_pairs(five, (120, 36))
    monkeypatch.setattr("prefscope.private.open_file", refuse)
    terminal.press("space")
    assert "Read-only file system" in terminal.text
    assert five.mark_of(0).is_empty


def test_y_copies_the_pair_id(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    terminal.press("down", "y")
    assert terminal.app.clipboard == "0000000000000001"
