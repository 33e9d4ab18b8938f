"""Marking at speed: direct keys, ranges, all pairs in the scope; each action is written once and undone at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.widgets import OptionList

from prefscope.ledger.marks import Mark, load_marks
from prefscope.private import replace_json
from prefscope.tui.dialogs.mark_scope import MarkScope
from prefscope.tui.model.session import Session, Sort
from prefscope.tui.widgets.pair_table import PairTable
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal

Show = Callable[..., Terminal]


@pytest.fixture
def six(tmp_path: Path) -> Session:
    return write_pairs(tmp_path / "six.parquet", [{"margin": margin} for margin in (1, -2, 3, -4, 5, -6)])


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows with every file of marks that is written."""
    found: list[int] = []

    def count(path: Path, content: dict[str, list[object]]) -> None:
        found.append(len(content["marks"]))
        replace_json(path, content)

    monkeypatch.setattr("prefscope.ledger.marks.replace_json", count)
    return found


def decisions(session: Session) -> list[str | None]:
    return [session.mark_of(position).decision for position in range(session.ledger.num_pairs)]


def test_keys_set_a_decision_directly_and_take_it_back(six: Session, show_pairs: Show) -> None:
    terminal = show_pairs(six)
    seen = []
    for key in "KDSS":
        terminal.press(key)
        seen.append(decisions(six)[0])
    assert seen == ["keep", "drop", "swap", None]


def test_a_decision_leaves_the_note(six: Session, show_pairs: Show) -> None:
    six.set_marks({0: Mark("keep", "why?")})
    show_pairs(six).press("D")
    assert six.mark_of(0) == Mark("drop", "why?")


@pytest.mark.parametrize(
    "keys", [("j", "V", "j", "j"), ("j", "shift+down", "shift+down"), ("G", "k", "k", "V", "k", "k")]
)
def test_a_range_is_marked_written_and_undone_in_one_step(
    six: Session, show_pairs: Show, writes: list[int], keys: tuple[str, ...]
) -> None:
    terminal = show_pairs(six)
    terminal.press("V")
    assert "range of 1 pair · K keep" in terminal.text
    terminal.press("V", *keys)
    assert "range of 3 pairs · K keep · D drop · S swap" in terminal.text
    terminal.press("D")
    assert decisions(six) == [None, "drop", "drop", "drop", None, None]
    assert writes == [3]
    assert "range of" not in terminal.text
    assert "3 pairs: drop · u undoes it" in terminal.text
    terminal.press("u")
    assert decisions(six) == [None] * 6


def test_a_range_that_has_the_decision_loses_it_and_a_mixed_one_gets_it(six: Session, show_pairs: Show) -> None:
    six.set_marks({1: Mark("keep")})
    terminal = show_pairs(six)
    terminal.press("V", "j", "K")
    assert decisions(six)[:2] == ["keep", "keep"]
    terminal.press("V", "k", "K")
    assert decisions(six)[:2] == [None, None]


def test_the_range_is_drawn_with_a_glyph_and_ends_with_escape_or_another_order(six: Session, show_pairs: Show) -> None:
    terminal = show_pairs(six)
    table = terminal.app.screen.query_one(PairTable)
    terminal.press("V", "j", "j")
    assert [line[0] for line in terminal.lines[1:5]] == ["│", "│", "▶", " "]
    assert table.range == [0, 1, 2]
    terminal.press("escape")
    assert table.range == []
    assert six.expression == ""
    terminal.press("V", "j", "s")
    assert table.range == []


def test_all_pairs_in_the_scope_are_marked_after_a_question(six: Session, show_pairs: Show, writes: list[int]) -> None:
    six.set_filter("margin < 0")
    six.set_marks({1: Mark("keep"), 3: Mark("drop")})
    terminal = show_pairs(six)
    terminal.press("M")
    assert isinstance(terminal.app.screen, MarkScope)
    assert "mark all 3 pairs in margin < 0?" in terminal.text
    lines = [str(option.prompt) for option in terminal.app.screen.query_one(OptionList).options]
    assert [line.split("  ")[0] for line in lines] == [
        "keep all",
        "drop all",
        "swap all",
        "remove all decisions; notes stay",
    ]
    assert [line[34:] for line in lines] == [
        "1 are already, 1 change from another decision",
        "1 are already, 1 change from another decision",
        "2 change from another decision",
        "1 have none, 2 are removed",
    ]
    terminal.press("escape")
    assert decisions(six) == [None, "keep", None, "drop", None, None]
    terminal.press("M", "j", "enter")
    assert decisions(six) == [None, "drop", None, "drop", None, "drop"]
    assert writes == [2, 3]
    terminal.press("u")
    assert decisions(six) == [None, "keep", None, "drop", None, None]
    terminal.press("M", "end", "enter")
    assert decisions(six) == [None] * 6


def test_marks_can_be_sorted_by_and_rows_stay_until_asked(six: Session, show_pairs: Show) -> None:
    six.set_marks({2: Mark("drop"), 4: Mark("swap", "b")})
    six.set_sort(Sort("mark", descending=True))
    assert six.order.tolist()[:2] == [4, 2]
    terminal = show_pairs(six)
    terminal.press("G", "S")
    assert six.order.tolist()[:2] == [4, 2]
    assert "order is outdated: r" in terminal.text
    terminal.press("r")
    assert sorted(six.order.tolist()[:2]) == [4, 5]
    six.set_filter('note == "b"')
    assert six.order.tolist() == [4]


def test_ten_thousand_marks_are_one_write(tmp_path: Path, show_pairs: Show, writes: list[int]) -> None:
    session = write_pairs(tmp_path / "many.parquet", [{}] * 10_000)
    terminal = show_pairs(session)
    terminal.press("M", "enter")
    assert writes == [10_000]
    assert len(load_marks(session.ledger.path)) == 10_000
    terminal.press("u")
    assert len(load_marks(session.ledger.path)) == 0


@pytest.mark.slow
def test_the_pair_screen_has_the_same_keys(show_app: Show, demo: Session) -> None:
    terminal = show_app((80, 24))
    terminal.press("2", "enter", "D")
    assert demo.mark_of(0).decision == "drop"
    assert "[drop]" in terminal.lines[2]
    terminal.press(">", "K", "<")
    assert demo.mark_of(1).decision == "keep"
    assert demo.position == 0


@pytest.mark.slow
def test_the_pair_screen_highlights_what_the_scope_searches_for(show_app: Show, demo: Session) -> None:
    demo.set_filter('has("clear variable") or has("review this")')
    terminal = show_app((80, 24))
    terminal.press("2", "enter", "tab")

    def reversed_texts() -> list[str]:
        return [one.text.strip() for strip in terminal.strips[1:] for one in strip if one.style and one.style.reverse]

    assert "review this" in reversed_texts()
    assert {"clear", "variable"} <= set(reversed_texts())
    terminal.press("p", "tab", "tab")
    assert {"clear", "variable"} <= set(reversed_texts())
    terminal.press("escape")
    demo.set_filter("")
    terminal.press("1", "3", "tab")
    assert "clear" not in reversed_texts()
