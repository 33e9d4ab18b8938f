"""The table of pairs: what a line shows, how the cursor moves, how a pair is opened."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.flags import FLAGS
from prefscope.tui.model.session import Session
from prefscope.tui.theme import ORANGE, SKY
from prefscope.tui.widgets.beginnings import Beginnings
from prefscope.tui.widgets.pair_columns import (
    MINIMAL_PROMPT,
    POINTER,
    arrange,
    flag_letters,
    pair_columns,
)
from prefscope.tui.widgets.pair_table import PairTable
from tests.tui.pairs_app import PairsApp, write_pairs
from tests.tui.terminal import Terminal, cursor_line, prompts

MARGINS = (0.5, -0.25, 0.0, -1.5, 2.0)
Show = Callable[..., Terminal]


@pytest.fixture
def five(tmp_path: Path) -> Session:
    """Return five pairs: right, wrong, tied, wrong, right."""
    return write_pairs(tmp_path / "five.parquet", [{"margin": margin} for margin in MARGINS])


@pytest.fixture
def hundred(tmp_path: Path) -> Session:
    """Return a hundred pairs; every tenth is wrong."""
    pairs = [{"margin": -1.0 if row % 10 == 0 else 1.0 + row / 100} for row in range(100)]
    return write_pairs(tmp_path / "hundred.parquet", pairs, group=7)


def table_of(terminal: Terminal) -> PairTable:
    return terminal.app.screen.query_one(PairTable)


# What is shown


def test_five_pairs_fit_80_columns(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    assert terminal.lines[:7] == [
        "   #▲ prompt                            r_chs   r_rej  margin       dpo m flags",
        "▶   0 prompt 0                          +0.50   +0.00   +0.50     0.474",
        "    1 prompt 1                          -0.25   +0.00   -0.25 −   0.826",
        "    2 prompt 2                          +0.00   +0.00   +0.00 =   0.693",
        "    3 prompt 3                          -1.50   +0.00   -1.50 −   1.701",
        "    4 prompt 4                          +2.00   +0.00   +2.00     0.127",
        "",
    ]


def test_lengths_and_more_losses_appear_if_they_fit(five: Session) -> None:
    def titles(width: int) -> list[str]:
        return [placed.column.title for placed in arrange(pair_columns(five), width, set())]

    assert titles(20) == ["#", "prompt"]
    assert titles(60) == ["#", "prompt", "margin", "dpo", "m"]
    assert titles(79) == ["#", "prompt", "r_chs", "r_rej", "margin", "dpo", "m", "flags"]
    assert titles(92) == ["#", "prompt", "r_chs", "r_rej", "margin", "dpo", "len_c", "len_r", "m", "flags"]
    assert titles(200)[5:8] == ["dpo", "ipo", "simpo"]


def test_a_line_fills_the_table_once_number_and_prompt_fit(five: Session) -> None:
    for width in range(POINTER + 5 + MINIMAL_PROMPT, 200):
        last = arrange(pair_columns(five), width, set())[-1]
        assert last.left + last.width == width


def test_the_sort_column_is_shown_even_in_narrow_tables(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five, (50, 12))
    assert "len_r" not in terminal.lines[0]
    terminal.press(*"<<<s")
    assert "len_r▼" in terminal.lines[0]


def test_wrong_and_right_margins_differ_in_glyph_and_in_colour(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    assert terminal.colour_of("-1.50 −") == ORANGE
    assert terminal.colour_of("+2.00  ") == SKY


def test_log_probs_and_simpo_are_shown_without_a_reference(tmp_path: Path, show_pairs: Show) -> None:
    session = write_pairs(tmp_path / "free.parquet", [{}, {}], has_reference=False)
    terminal = show_pairs(session)
    assert terminal.lines[:2] == [
        "   #▲ prompt                      logp_c   logp_r   simpo  len_c  len_r m flags",
        "▶   0 prompt 0                     -52.0    -61.0   1.812     20     30",
    ]
    terminal.press("n")
    assert "Without a reference" in terminal.text


def test_pairs_without_scores_show_dots_and_come_last_in_both_directions(tmp_path: Path, show_pairs: Show) -> None:
    pairs = [{"policy_chosen_logps": math.nan}, {"margin": 1.0}, {"margin": -1.0}]
    terminal = show_pairs(write_pairs(tmp_path / "nan.parquet", pairs))
    assert terminal.lines[1].split() == ["▶", "0", "prompt", "0", "·", "+0.00", "·", "·"]
    terminal.click("PairTable", 60, 0)
    assert prompts(terminal) == ["2", "1", "0"]
    terminal.click("PairTable", 60, 0)
    assert prompts(terminal) == ["1", "2", "0"]


def test_long_numbers_lose_decimals_and_keep_the_grid(tmp_path: Path, show_pairs: Show) -> None:
    terminal = show_pairs(write_pairs(tmp_path / "far.parquet", [{"margin": -123456.0}, {"margin": math.inf}]))
    assert terminal.widths == {80}
    assert "-123456 −" in terminal.lines[1]
    assert "+inf" in terminal.lines[2]


def test_every_flag_has_its_own_letter() -> None:
    assert len({flag.letter for flag in FLAGS.values()}) == len(FLAGS)
    assert flag_letters("no_eos;truncated") == "TE"
    assert flag_letters("") == ""
    assert flag_letters("truncated;of_a_later_version") == "T?"


def test_a_conversation_is_shown_from_the_first_user_turn(tmp_path: Path, show_pairs: Show) -> None:
    pairs = [{"prompt": "[system]\nBe brief.\n\n[user]\nWhy is\nthe sky blue?"}, {"prompt": "[user]\nHello"}]
    terminal = show_pairs(write_pairs(tmp_path / "talk.parquet", pairs))
    assert [line[6:31].rstrip() for line in terminal.lines[1:3]] == ["Why is⏎the sky blue?", "Hello"]


def test_an_empty_ledger_is_shown_as_an_empty_table(tmp_path: Path, show_pairs: Show) -> None:
    terminal = show_pairs(write_pairs(tmp_path / "none.parquet", []))
    assert terminal.lines[1].strip() == PairTable.EMPTY
    terminal.press("down", "G", "n", "enter", "space", "y", "s", "pagedown")
    assert terminal.lines[1].strip() == PairTable.EMPTY
    assert not (tmp_path / "none.marks.json").exists()


# The cursor


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        (["down"], 1),
        (["j", "j", "k"], 1),
        (["up"], 0),
        (["G"], 99),
        (["end", "up"], 98),
        (["G", "g"], 0),
        (["G", "home"], 0),
        (["pagedown"], 21),
        (["pagedown", "pageup"], 0),
        (["ctrl+d"], 10),
        (["ctrl+d", "ctrl+d", "ctrl+u"], 10),
        (["G", "pagedown"], 99),
        (["n"], 10),
        (["n", "n", "N"], 10),
        (["G", "N"], 90),
    ],
)
def test_keys_move_the_cursor_and_scroll_it_into_view(
    hundred: Session, show_pairs: Show, keys: list[str], place: int
) -> None:
    terminal = show_pairs(hundred)
    terminal.press(*keys)
    assert hundred.position == place
    assert cursor_line(terminal).split()[1] == str(place)


def test_the_cursor_stays_and_a_notice_appears_after_the_last_wrong_pair(hundred: Session, show_pairs: Show) -> None:
    terminal = show_pairs(hundred)
    terminal.press("G", "n")
    assert hundred.position == 99
    assert "No more wrong pairs this way" in terminal.text


def test_the_header_stays_and_the_last_pair_is_on_the_last_line(hundred: Session, show_pairs: Show) -> None:
    terminal = show_pairs(hundred)
    terminal.press("G")
    assert terminal.lines[0].lstrip().startswith("#▲ prompt")
    assert prompts(terminal) == [str(row) for row in range(79, 100)]


def test_the_wheel_scrolls_and_leaves_the_cursor_where_it_is(hundred: Session, show_pairs: Show) -> None:
    terminal = show_pairs(hundred)
    table_of(terminal).scroll_relative(y=30, animate=False)
    terminal.rest()
    assert prompts(terminal)[0] == "30"
    assert hundred.position == 0


def test_prompts_in_view_are_read_across_any_number_of_row_groups(hundred: Session, show_pairs: Show) -> None:
    terminal = show_pairs(hundred, (80, 60))
    terminal.press("G")
    assert prompts(terminal) == [str(row) for row in range(43, 100)]


def test_a_row_group_is_read_once_for_all_of_its_pairs(hundred: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    beginnings = hundred.ledger.beginnings

    def count(position: int, column: str, length: int) -> tuple[int, list[str]]:
        asked.append(position)
        return beginnings(position, column, length)

    monkeypatch.setattr(hundred.ledger, "beginnings", count)
    known = Beginnings(hundred.ledger, "prompt")
    assert known.load(range(7, 21), groups=4)
    assert asked == [7, 14]
    assert known.get(20) == "prompt 20"
    assert known.get(21) is None
    assert not known.load(range(100), groups=4)


# Opening


def test_enter_opens_the_pair_under_the_cursor(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    terminal.press("down", "enter")
    assert isinstance(terminal.app, PairsApp)
    assert terminal.app.pairs_screen.opened == [1]


def test_a_click_moves_to_a_row_and_a_second_click_opens_it(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    assert isinstance(terminal.app, PairsApp)
    terminal.click("PairTable", 10, 4)
    assert five.position == 3
    assert terminal.app.pairs_screen.opened == []
    terminal.click("PairTable", 10, 4)
    assert terminal.app.pairs_screen.opened == [3]


def test_a_click_below_the_last_row_does_nothing(five: Session, show_pairs: Show) -> None:
    terminal = show_pairs(five)
    terminal.click("PairTable", 10, 12)
    assert five.position == 0
