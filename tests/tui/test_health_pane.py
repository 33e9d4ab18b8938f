"""Health: findings, flags and subsets, and the pairs of a row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable

from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from prefscope.tui.panes import health
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal

Show = Callable[..., Terminal]


def test_an_event_of_a_row_that_is_gone_changes_nothing(show_app: Callable[..., Terminal]) -> None:
    terminal = show_app((120, 36))
    terminal.press("6")
    before = terminal.text
    table = terminal.app.screen.query_one("#health-rows", DataTable)
    for kind in (DataTable.RowHighlighted, DataTable.RowSelected):
        gone: Any = None  # as in Textual's events of a table that was cleared in the meantime
        table.post_message(kind(table, 0, gone))
        terminal.rest()
    assert terminal.app._exception is None
    assert terminal.text == before


def test_every_finding_is_listed_with_its_figure(show_app: Show) -> None:
    terminal = show_app((120, 36))
    terminal.press("6")
    assert "✓ Displacement        1.8% (1–5) by lowering both" in terminal.text
    assert "⚠ Calibration         ECE 0.362, best beta 1.79" in terminal.text
    assert "✓ Token concentration top 5 tokens carry 25%" in terminal.text


def test_the_highlighted_finding_is_shown_in_full_with_its_source(show_app: Show) -> None:
    terminal = show_app((120, 36))
    terminal.press("6", "down", "down")
    sentence = "The longer response is rewarded (+0.114 per 100 tokens, 43% of the variance): at equal length"
    assert sentence in " ".join(terminal.text.split())
    assert "Source: Park et al. 2024 (R-DPO), arXiv 2403.19159" in terminal.text


def test_label_noise_is_shown_by_split_with_what_is_out_of_reach(show_app: Show) -> None:
    terminal = show_app((120, 36))
    terminal.press("6", *["down"] * 5)
    shown = " ".join(terminal.text.split())
    assert "By split: held_out noise 18.9% (0–34), 7 suspects; train noise 2.4% (0–6), 3 suspects." in shown
    assert "Flipped labels that the policy was trained on are out of reach" in shown


def test_enter_lists_the_pairs_of_a_finding(show_app: Show, demo: Session) -> None:
    terminal = show_app()
    terminal.press("6", "down", "enter")
    assert demo.expression == "margins > 0 and chosen_logratios < 0"
    assert demo.order.size == 3


def test_enter_lists_the_pairs_of_a_flag(show_app: Show, demo: Session) -> None:
    terminal = show_app()
    terminal.press("6", *["down"] * 8, "enter")
    assert demo.expression == "flag(identical)"


def test_moving_a_knob_updates_the_findings(show_app: Show, demo: Session) -> None:
    terminal = show_app((120, 36))
    terminal.press("4", "right_square_bracket", "6")
    assert demo.preferences.beta > 0.1
    assert "Calibration         ECE 0.362" not in terminal.text
    assert "best beta 1.79" in terminal.text


def test_pairs_can_be_grouped_by_a_column_and_a_group_opened(show_app: Show, demo: Session) -> None:
    terminal = show_app((120, 36))
    terminal.press("6", "b", "down", "enter")
    assert "✱ train                  126     96.0% (91–98%)      +0.255 (+0.207 to +0.303)" in terminal.text
    terminal.press("down", "enter")
    assert demo.expression == 'split == "held_out"'
    assert demo.order.size == 44


def test_escape_goes_back_to_the_findings(show_app: Show) -> None:
    terminal = show_app()
    terminal.press("6", "b", "enter", "escape")
    assert "Displacement" in terminal.text


def test_tokens_of_many_pairs_are_read_only_on_request(show_app: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FEW", 10)
    terminal = show_app((120, 36))
    terminal.press("6", *["down"] * 7)
    assert "Token concentration not read yet                   Enter reads the tokens of 170 pairs" in terminal.text
    terminal.press("enter")
    assert "✓ Token concentration top 5 tokens carry 25%" in terminal.text
    assert "Spread over 98 tokens per pair" in terminal.text


def test_the_cursor_stays_on_its_row_when_the_window_is_resized(show_app: Show) -> None:
    terminal = show_app()
    terminal.press("6", "down", "down", "down")
    terminal.resize(120, 36)
    assert "Ranking accuracy: policy 47.1% (40–55)." in terminal.text


def test_the_cursor_stays_on_its_row_when_clean_flags_are_shown(show_app: Show) -> None:
    terminal = show_app((120, 36))
    terminal.press("6", *["down"] * 8, "v")
    assert "For example, row 159, line 160:" in terminal.text


def test_a_ledger_without_a_reference_shows_the_findings_that_need_none(tmp_path: Path) -> None:
    session = write_pairs(tmp_path / "free.parquet", [{}, {}], has_reference=False)
    with Terminal(PrefscopeApp(session)) as terminal:
        terminal.press("6")
        assert "Gradient weight" in terminal.text
        assert "Displacement" not in terminal.text
