"""The filter bar: live, forgiving while typing, with completion and history."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.filters import Names
from prefscope.tui.model.session import Session
from prefscope.tui.widgets.filter_bar import FilterBar, FilterInput, completions
from prefscope.tui.widgets.pair_table import PairTable
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal

Show = Callable[..., Terminal]
NAMES = Names(
    kinds={"margins": "number", "chosen_num_tokens": "number", "prompt": "text", "my score": "number", "a\x1b": "text"},
    aliases={"margin": "margins", "len_c": "chosen_num_tokens"},
)


@pytest.fixture
def shown(tmp_path: Path, show_pairs: Show) -> Terminal:
    """Return a terminal with four pairs and the focus in the filter."""
    margins = (0.5, -0.25, 0.0, -1.5)
    session = write_pairs(tmp_path / "four.parquet", [{"margin": margin} for margin in margins])
    terminal = show_pairs(session)
    terminal.press("/")
    return terminal


def session_of(terminal: Terminal) -> Session:
    return terminal.app.screen.query_one(FilterBar).session


def line(terminal: Terminal) -> str:
    (found,) = [line for line in terminal.lines if line.startswith(" / ")]
    return found


def test_pairs_are_filtered_while_typing(shown: Terminal) -> None:
    shown.type("margin < 0")
    assert session_of(shown).order.tolist() == [1, 3]
    assert line(shown) == " / margin < 0" + " " * 63 + "✓ 2"
    shown.type(" and margin > -1")
    assert session_of(shown).order.tolist() == [1]
    assert line(shown).endswith("✓ 1")


def test_keys_of_the_pane_type_letters_in_the_filter(shown: Terminal) -> None:
    shown.type("fnNsyuq/123 ")
    assert shown.app.screen.query_one(FilterInput).value == "fnNsyuq/123 "


def test_an_error_keeps_the_pairs_and_points_at_the_mistake(shown: Terminal) -> None:
    shown.type("margin < 0")
    shown.type(" or margni > 1")
    assert session_of(shown).expression == "margin < 0"
    assert session_of(shown).order.tolist() == [1, 3]
    assert line(shown).endswith(" ✗")
    assert shown.lines[-2].strip().startswith("There is no column margni. Did you mean margin or margins?")
    underlined = [
        segment.text for strip in shown.strips[1:] for segment in strip if segment.style and segment.style.underline
    ]
    assert underlined == ["margni"]


def test_the_error_disappears_when_it_is_fixed(shown: Terminal) -> None:
    shown.type("margin <")
    assert "Something is missing at the end" in shown.text
    shown.type(" 0")
    assert "Something is missing at the end" not in shown.text
    assert line(shown).endswith("✓ 2")


def test_typed_markup_and_control_characters_are_shown_literally(shown: Terminal) -> None:
    shown.type("[/foo]")
    assert "[/foo]" in line(shown)
    assert "This is not valid here" in shown.text
    shown.app.screen.query_one(FilterInput).value = 'prompt ~ "\x1b[2J"'
    shown.rest()
    assert "\x1b" not in shown.text
    assert shown.widths == {80}


def test_escape_returns_to_the_pairs_and_clears_the_filter_from_there(shown: Terminal) -> None:
    shown.type("margin < 0")
    shown.press("escape")
    assert isinstance(shown.app.focused, PairTable)
    assert session_of(shown).order.size == 2
    shown.press("escape")
    assert session_of(shown).order.size == 4
    assert shown.app.screen.query_one(FilterInput).value == ""


def test_escape_clears_an_invalid_expression(shown: Terminal) -> None:
    shown.type("margin <")
    shown.press("escape", "escape")
    assert shown.app.screen.query_one(FilterInput).value == ""
    assert "missing" not in shown.text


def test_enter_moves_to_the_pairs_at_once(shown: Terminal) -> None:
    shown.press(*"margin < 0", "enter")
    assert isinstance(shown.app.focused, PairTable)
    assert session_of(shown).order.tolist() == [1, 3]


def test_enter_stays_in_the_filter_while_it_is_invalid(shown: Terminal) -> None:
    shown.press(*"margin <", "enter")
    assert isinstance(shown.app.focused, FilterInput)


def test_arrow_keys_recall_previous_filters(shown: Terminal) -> None:
    field = shown.app.screen.query_one(FilterInput)
    for expression in ("margin < 0", "margin > 0"):
        field.value = ""
        shown.press(*expression, "enter", "/")
    field.value = ""
    recalled = []
    for key in ("up", "up", "up", "down", "down"):
        shown.press(key)
        recalled.append(field.value)
    assert recalled == ["margin > 0", "margin < 0", "margin < 0", "margin > 0", ""]
    shown.press("up")
    assert session_of(shown).order.tolist() == [0]


def test_tab_completes_the_word_and_cycles_through_candidates(shown: Terminal) -> None:
    field = shown.app.screen.query_one(FilterInput)
    shown.type("len_c > le")
    completed = []
    for _ in range(3):
        shown.press("tab")
        completed.append(field.value)
    assert completed == ["len_c > len_c", "len_c > len_r", "len_c > len_c"]


def test_tab_completes_in_the_middle_and_keeps_the_rest(shown: Terminal) -> None:
    field = shown.app.screen.query_one(FilterInput)
    field.value = "pro ~ 'x'"
    field.cursor_position = 3
    shown.press("tab")
    assert field.value == "prompt ~ 'x'"
    assert field.cursor_position == 6


def test_tab_leaves_unknown_words_unchanged(shown: Terminal) -> None:
    shown.press(*"zzz", "tab")
    assert shown.app.screen.query_one(FilterInput).value == "zzz"
    assert isinstance(shown.app.focused, FilterInput)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("mar", ["margin", "margins", "mark("]),
        ("margin < 0 and LEN", ["len_c"]),
        ("my", ["`my score`"]),
        ("flag(tr", ["truncated)"]),
        ("mark(", ["any)", "keep)", "drop)", "swap)", "note)"]),
        ("ab", ["abs("]),
        ("a", ["abs("]),
        ("", []),
        ("margin ", []),
    ],
)
def test_the_word_before_the_cursor_has_the_expected_completions(before: str, expected: list[str]) -> None:
    assert completions(before, NAMES) == expected


def test_a_filter_set_elsewhere_is_shown_in_the_line(shown: Terminal) -> None:
    session = session_of(shown)
    shown.press("escape")
    session.set_filter("margin > 0")
    shown.press("space")
    assert line(shown).split() == ["/", "margin", ">", "0", "✓", "1"]
