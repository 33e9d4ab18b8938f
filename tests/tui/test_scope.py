"""The scope: the pairs that a filter selects; every pane shows these pairs, beside the rest."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from textual.widgets import DataTable, Static

from prefscope.ledger.filters import FilterError
from prefscope.ledger.marks import Mark
from prefscope.ledger.pairing import PairedView
from prefscope.ledger.scopes import load_scopes, save_scopes, scopes_path
from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.report.cards import cards
from prefscope.report.comparison import compare
from prefscope.settings import PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from prefscope.tui.screens.main import identity
from prefscope.tui.widgets.card_box import CardBox
from tests.tui.terminal import Terminal

Show = Callable[..., Terminal]
SCOPES = ["margin < 0", "len_c > 2 * len_r", 'prompt ~ "the" and margin > 0.1', "margin > 1e9", "flag(truncated)"]


@pytest.fixture
def two(samples: Path, tmp_path: Path) -> Session:
    names = ("demo.parquet", "demo-early.parquet")
    shown, early = (load_ledger(shutil.copy(samples / name, tmp_path / name)) for name in names)
    return Session(shown, PreferenceSettings(), [early])


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("expression", SCOPES)
def test_a_scope_has_the_columns_of_its_pairs(two: Session, expression: str, warm: bool) -> None:
    if warm:  # columns that are known already are cut, not computed
        for name in two.view.names.kinds:
            two.view.column(name)
    two.set_filter(expression)
    wanted = two.view.filter(expression)
    parts = [(two.scoped, wanted)] + ([] if two.rest is None else [(two.rest, ~wanted)])
    for part, mask in parts:
        for name in two.view.names.kinds:
            np.testing.assert_array_equal(part.column(name), two.view.column(name)[mask], err_msg=name)
    assert sum(part.ledger.num_pairs for part, _ in parts) == two.ledger.num_pairs


def test_without_a_scope_there_is_no_rest(demo: Session) -> None:
    assert demo.scoped is demo.view
    assert demo.rest is None


def test_both_runs_of_a_scope_are_compared_on_its_pairs(two: Session) -> None:
    whole = two.view
    assert isinstance(whole, PairedView)
    two.set_filter("margin_b > 0")
    scoped, rest = two.scoped, two.rest
    assert isinstance(scoped, PairedView)
    assert isinstance(rest, PairedView)
    parts, all_pairs = [compare(scoped), compare(rest)], compare(whole)
    assert [sum(part.quadrants[name] for part in parts) for name in all_pairs.quadrants] == [
        *all_pairs.quadrants.values()
    ]
    assert parts[0].accuracy.b == 1.0
    assert [one.ledger.num_pairs for one in two.views_of_runs()] == [parts[0].pairs] * 2


def test_a_scope_is_narrowed_and_widened_step_by_step(demo: Session) -> None:
    demo.narrow("margin < 0")
    demo.narrow("len_c > len_r")
    assert demo.expression == "(margin < 0) and (len_c > len_r)"
    both = demo.order.size
    assert demo.widen()
    assert demo.expression == "margin < 0"
    assert demo.order.size > both
    assert demo.widen()
    assert (demo.expression, demo.order.size) == ("", 170)
    assert not demo.widen()


def test_a_filter_that_is_typed_is_widened_to_all_pairs(demo: Session) -> None:
    demo.narrow("margin < 0")
    demo.set_filter("margin > 0")
    demo.widen()
    assert demo.expression == ""


def test_initial_means_are_those_of_the_scope(demo: Session) -> None:
    demo.set_filter("margin < 0")
    margins = demo.view.column("margins")
    assert demo.first_mean("margins") == pytest.approx(margins[margins < 0].mean())
    demo.widen()
    assert demo.first_mean("margins") == pytest.approx(margins.mean())


def test_the_identity_line_names_the_scope(demo: Session) -> None:
    demo.set_filter('category == "math"')
    count = demo.order.size
    assert f'scope: category == "math" · {count} of 170' in identity(demo, 120).plain
    assert f"scope: category ==… · {count} of 170" in identity(demo, 36).plain


def open_tab(terminal: Terminal, key: str) -> str:
    terminal.press(key)
    return terminal.text


@pytest.mark.slow
def test_every_pane_shows_the_scope_and_escape_widens_it(show_app: Show, demo: Session) -> None:
    terminal = show_app((120, 36))
    whole = {key: open_tab(terminal, key) for key in "146"}
    terminal.press("2", "slash")
    terminal.type("len_c > 2 * len_r")
    terminal.press("enter")
    inside, outside = (cards(part)[0] for part in (demo.scoped, demo.rest) if part is not None)
    found = open_tab(terminal, "1")
    assert f"│ {inside.value}" in found
    assert f"rest {outside.value.partition(' ')[0]}" in found
    assert inside.value in open_tab(terminal, "4")
    assert "rest" in terminal.text
    assert "scope: len_c > 2 * len_r" in open_tab(terminal, "6")
    details = terminal.app.screen.query_one("#detail", Static)
    assert "The other pairs: " in str(details.content)
    assert f"acc {round(100 * float(inside.value.partition('%')[0]) / 100)}%" in open_tab(terminal, "2")
    for key in "641":
        terminal.press("escape")
        assert open_tab(terminal, key) == whole[key]
    assert demo.expression == ""


@pytest.mark.slow
def test_a_card_lists_the_pairs_that_it_counts(show_app: Show, demo: Session) -> None:
    terminal = show_app((120, 36))
    terminal.app.screen.query(CardBox).first().focus()
    terminal.press("enter")
    assert demo.expression == "margins < 0"
    assert "14/170" in terminal.text


@pytest.mark.slow
def test_a_row_of_health_narrows_the_scope_to_as_many_pairs_as_it_counts(show_app: Show, demo: Session) -> None:
    demo.set_filter("margin > 0")
    terminal = show_app((120, 36))
    terminal.press("6")
    table = terminal.app.screen.query_one("#health DataTable", DataTable)
    names = [str(table.get_row_at(at)[1]).strip() for at in range(table.row_count)]
    terminal.press(*["down"] * names.index("contradictions"))
    figure = str(table.get_row_at(table.cursor_row)[2])
    terminal.press("enter")
    assert demo.order.size == int(figure.split(maxsplit=1)[0])
    assert demo.expression == "(margin > 0) and (lint(contradictions))"


def exported(program: Callable[..., tuple[int, str, str]], ledger: Path, expression: str) -> str:
    output = ledger.with_name("out.csv")
    code, _, err = program("export", ledger, "--where", expression, "-o", output)
    assert code == 0, err
    return output.read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_named_scope_is_listed_and_works_in_commands(
    show_app: Show, demo: Session, program: Callable[..., tuple[int, str, str]]
) -> None:
    terminal = show_app((120, 36))
    demo.set_filter("margin < 0.1 and len_c > 40")
    count = demo.order.size
    terminal.press("2", "ctrl+p")
    terminal.type("scope name")
    terminal.rest()
    terminal.press("enter")
    terminal.rest()
    terminal.type("hard")
    terminal.press("enter")
    assert load_scopes(demo.ledger.path) == {"hard": "margin < 0.1 and len_c > 40"}
    terminal.press("escape", "f")
    assert f"{count}  @hard" in terminal.text
    found = exported(program, demo.ledger.path, "@hard and margin < 0.05")
    assert found == exported(program, demo.ledger.path, "margin < 0.1 and len_c > 40 and margin < 0.05")
    assert found.count("\n") > 2


@pytest.mark.parametrize(
    ("scopes", "expression", "message"),
    [
        ({}, "@hard", "There is no scope @hard"),
        ({"easy": "margin > 1"}, "@hard or margin < 0", "There are @easy"),
        ({"hard": "@hard"}, "@hard", "The scope @hard (@hard) fails: There is no scope @hard"),
        ({"a": "@b", "b": "@a"}, "@a", "There is no scope @a"),
        ({"a": "colour == 1"}, "@a", "The scope @a (colour == 1) fails: There is no column colour"),
    ],
)
def test_a_scope_that_cannot_be_used_is_named(
    demo: Session, scopes: dict[str, str], expression: str, message: str
) -> None:
    save_scopes(demo.ledger.path, scopes)
    with pytest.raises(FilterError) as caught:
        demo.set_filter(expression)
    assert message in str(caught.value)
    assert demo.expression == ""


def test_a_damaged_file_of_scopes_is_reported_by_whoever_needs_it(demo: Session) -> None:
    path = scopes_path(demo.ledger.path)
    path.write_text('{"format": 1, "scopes": {"no good": "margin < 0"}}', encoding="utf-8")
    view = View(demo.ledger, PreferenceSettings())
    with pytest.raises(FilterError, match="These scopes cannot be read"):
        view.filter("@hard")
    assert demo.scopes == {}
    assert view.filter("margin < 0").sum() == 14
    assert view.filter('prompt ~ "a@b" or margin < 0').sum() == 14


def test_forgetting_the_last_scope_removes_the_file(demo: Session) -> None:
    demo.name_scope("hard", "margin < 0")
    demo.name_scope("hard", "")
    assert not scopes_path(demo.ledger.path).exists()


def test_a_scope_named_in_one_session_is_known_in_another(demo: Session) -> None:
    demo.name_scope("hard", "margin < 0")
    other = Session(load_ledger(demo.ledger.path), PreferenceSettings())
    other.set_filter("not @hard")
    assert other.order.size == 156


def test_the_header_counts_the_scope_after_a_mark_has_changed_it(demo: Session) -> None:
    demo.set_marks({0: Mark("keep"), 1: Mark("keep")})
    demo.set_filter("mark(keep)")
    with Terminal(PrefscopeApp(demo), (120, 36)) as terminal:
        assert "· 2 of 170" in terminal.lines[0]
        terminal.press("3", "D", "1")
        assert "· 1 of 170" in terminal.lines[0]
