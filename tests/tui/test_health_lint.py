"""Health shows lint findings: at once for few pairs, on request for many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from prefscope.data.checks import lint_pairs
from prefscope.data.records import PreferencePair
from prefscope.report.diagnosis import diagnose
from prefscope.tui.model.health_rows import finding_row, lint_rows
from prefscope.tui.model.session import Session
from prefscope.tui.panes import health
from tests.tui.terminal import Terminal

Show = Callable[..., Terminal]


def test_enter_lists_the_pairs_of_a_lint_finding(show_app: Show) -> None:
    terminal = show_app((120, 36))
    terminal.press("6", *["down"] * 10)
    assert "line 78 like line 154" in terminal.text
    terminal.press("enter")
    assert "lint(contradictions)" in terminal.text
    assert "2/170" in terminal.text


@pytest.mark.slow
def test_many_texts_are_linted_only_on_request(show_app: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FEW", 0)
    terminal = show_app((120, 36))
    terminal.press("6")
    assert "not checked yet" in terminal.text
    assert "contradictions" not in terminal.text
    terminal.press(*["down"] * 12, "enter")
    terminal.wait_for(lambda: "contradictions" in terminal.text)
    assert "not checked yet" not in terminal.text


def test_a_diagnostic_and_a_check_of_the_same_name_are_both_listed(demo: Session) -> None:
    keys = [finding_row(demo.view, one).key for one in diagnose(demo.view).findings]
    longer = [PreferencePair(row, row + 1, f"{row}?", "no" * row, "yes") for row in range(40)]
    keys += [row.key for row in lint_rows(lint_pairs(longer), np.arange(len(longer)))]
    assert "length_bias" in keys
    assert "lint length_bias" in keys
    assert len({*keys}) == len(keys)
