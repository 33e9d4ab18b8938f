"""The Pairs pane as a whole: at both sizes, with quick filters, a preview and hostile texts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.strip import Strip

from prefscope.report.visible import visible
from prefscope.tui.dialogs.quick_filters import QuickFilters, quick_filters
from prefscope.tui.model.session import Session
from prefscope.tui.panes.pairs import status
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal, assert_golden

Show = Callable[..., Terminal]
SIZES = [(80, 24), (120, 36)]
HOSTILE = {
    "control sequences": "\x1b[2J\x1b]52;c;ZXZpbA==\x07gone\x9b31m",
    "markup": "[/foo] [bold red]x[/] [@click=app.quit]quit[/]",
    "wide": "日本の首都はどこですか？" * 8,
    "combining": "e\u0301" * 60 + "a" + "\u0300" * 80,
    "emoji": "👨‍👩‍👧‍👦👍🏽🏳️‍🌈❤️" * 12,
    "joiners": "a\u200d" * 50 + "\u200db\ufe0f",
    "bidi": "\u202egnorw\u202c \u2066abc\u2069 שלום עולם",
    "long": "x" * 50_000,
    "lines": "a\r\nb\n\tc\u2028d\n" * 30,
    "empty": "",
    "blank": " \u3000 ",
}


def edges(strip: Strip) -> list[int]:
    """Return the columns at which the cells of a table line end."""
    widths = [cell_len(segment.text) for segment in strip]
    return list(itertools.accumulate(widths))[: 2 * 7]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_do_not_break_the_grid_or_the_terminal(
    tmp_path: Path, show_pairs: Show, text: str, size: tuple[int, int]
) -> None:
    pairs = [{"prompt": text, "chosen": text, "rejected": text}, {"prompt": "quiet"}, {"prompt": text}]
    terminal = show_pairs(write_pairs(tmp_path / "hostile.parquet", pairs), size)
    for keys in ("", "j", "k", "s"):
        terminal.press(*keys)
        assert terminal.widths == {size[0]}
        assert all(visible(line) == line for line in terminal.lines)
        assert not {"\u202e", "\u200d", "\ufe0f"} & set(terminal.text)
        header, *rows = (edges(strip) for strip in terminal.strips[:4])
        assert rows == [header] * 3


def test_the_demo_fits_80_by_24(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo, (80, 24))
    terminal.press("/", *"margin < 0", "enter", ">", ">", ">", ">", "s", "g")
    assert_golden(terminal, "pairs")


def test_the_demo_fits_120_by_36(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo, (120, 36))
    terminal.press("/", *"margin < 0", "enter", ">", ">", ">", ">", "s", "g", "space")
    assert_golden(terminal, "pairs")


def test_the_preview_needs_a_hundred_columns(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo, (100, 30))
    assert "+ chosen" in terminal.text
    terminal.resize(99, 30)
    assert "+ chosen" not in terminal.text
    terminal.resize(120, 36)
    assert "+ chosen" in terminal.text


def test_the_preview_follows_the_cursor(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo, (120, 36))
    assert "│ #0" in terminal.text
    terminal.press("down", "down")
    assert "│ #2" in terminal.text


def test_the_preview_shows_flags_marks_and_missing_scores(tmp_path: Path, show_pairs: Show) -> None:
    pair = {"flags": "truncated;no_eos", "policy_chosen_logps": float("nan"), "chosen_num_tokens": -1}
    terminal = show_pairs(write_pairs(tmp_path / "odd.parquet", [pair]), (120, 36))
    terminal.press("space")
    shown = [line.partition("│")[2].strip() for line in terminal.lines]
    assert shown[:4] == ["#0  ✓ keep", "not scored  ·", "dpo ·", "truncated, no_eos"]
    assert "+ chosen  r ·  · tok" in shown


def test_the_status_shows_the_number_of_matches_and_their_accuracy(tmp_path: Path) -> None:
    margins = [1.0] * 299 + [-1.0]
    session = write_pairs(tmp_path / "ranked.parquet", [{"margin": margin} for margin in margins])
    assert status(session) == "300/300 · 100% · acc >99% (98–100) · mean +0.99 · row ▲"
    session.set_filter("margin < 0")
    assert status(session) == "1/300 · <1% · acc 0% (0–79) · mean −1.00 · rest acc 100% (99–100) · row ▲"
    session.set_filter("margin > 5")
    assert status(session) == "0/300 · 0% · row ▲"


def test_the_status_has_no_accuracy_without_a_reference(tmp_path: Path) -> None:
    session = write_pairs(tmp_path / "free.parquet", [{}, {}], has_reference=False)
    assert status(session) == "2/2 · 100% · row ▲"


def test_a_pair_without_a_score_is_excluded_from_means(tmp_path: Path) -> None:
    session = write_pairs(tmp_path / "nan.parquet", [{"margin": float("nan")}, {"margin": 1.0}])
    assert status(session) == "2/2 · 100% · acc 100% (21–100) · mean +1.00 · row ▲"


def test_quick_filters_find_these_pairs(tmp_path: Path) -> None:
    pairs: list[dict[str, Any]] = [
        {"margin": -1.0, "flags": "truncated"},
        {"margin": 0.0, "flags": "truncated;no_eos"},
        {"margin": 6.0, "chosen_num_tokens": 100},
    ]
    session = write_pairs(tmp_path / "quick.parquet", pairs)
    assert [(one.title, one.expression, one.count) for one in quick_filters(session)] == [
        ("all pairs", "", 3),
        ("ranked wrong", "margin < 0", 1),
        ("tied", "margin == 0", 1),
        ("length-driven", "margin > 0 and len_c > 1.5 * len_r", 1),
        ("saturated", "abs(margin) > 5", 1),
        ("truncated", "flag(truncated)", 2),
        ("no eos", "flag(no_eos)", 1),
    ]


def test_quick_filters_without_a_reference_do_not_use_margins(tmp_path: Path) -> None:
    session = write_pairs(tmp_path / "free.parquet", [{}], has_reference=False)
    assert [one.expression for one in quick_filters(session)] == ["", "len_c > 1.5 * len_r"]


def test_quick_filters_use_full_names_where_the_data_set_has_the_alias(tmp_path: Path) -> None:
    session = write_pairs(tmp_path / "own.parquet", [{}], extra={"margin": ("text", ["wide"])})
    assert [one.expression for one in quick_filters(session)][1:3] == ["margins < 0", "margins == 0"]


def test_choosing_a_quick_filter_filters_the_pairs(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo)
    terminal.press("f")
    assert isinstance(terminal.app.screen, QuickFilters)
    terminal.press("j", "enter")
    assert demo.expression == "margin < 0"
    assert " / margin < 0" in terminal.text


def test_leaving_the_quick_filters_changes_nothing(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo)
    before = terminal.text
    terminal.press("f", "j", "escape")
    assert demo.expression == ""
    assert terminal.text == before


def test_marked_pairs_have_a_quick_filter(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo)
    terminal.press("j", "space", "f", "end", "enter")
    assert demo.expression == "mark(any)"
    assert demo.order.tolist() == [1]


def test_the_empty_table_says_how_to_clear_the_filter(demo: Session, show_pairs: Show) -> None:
    terminal = show_pairs(demo, (120, 36))
    terminal.press("/", *"margin > 99", "enter")
    assert "no pairs match · esc clears the filter" in terminal.lines[1]
    assert "+ chosen" not in terminal.text
    terminal.press("escape")
    assert demo.order.size == demo.ledger.num_pairs


def test_a_ledger_of_one_pair_is_shown(tmp_path: Path, show_pairs: Show) -> None:
    terminal = show_pairs(write_pairs(tmp_path / "one.parquet", [{"margin": -1.0}]))
    terminal.press("G", "g", "n", "pagedown", "s")
    assert terminal.lines[1].split() == ["▶", "0", "prompt", "0", "-1.00", "+0.00", "-1.00", "−", "1.313"]
