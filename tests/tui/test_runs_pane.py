"""The Runs pane: two steps of the demo's training, and runs that are hard to compare."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text
from textual.widgets import ContentSwitcher

from prefscope.ledger.marks import Mark
from prefscope.ledger.pairing import PairedView
from prefscope.ledger.table import load_ledger
from prefscope.report.comparison import compare
from prefscope.settings import PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.numbers import signed
from prefscope.tui.model.session import Session
from prefscope.tui.theme import ORANGE, SKY, THEMES
from prefscope.tui.widgets.quadrants import Quadrants
from prefscope.tui.widgets.run_table import RunTable
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal, assert_golden, cursor_line

pytestmark = pytest.mark.slow

Show = Callable[..., Terminal]
COUNTS = {"both": 124, "only_a": 31, "neither": 13, "only_b": 2}


@pytest.fixture
def session(samples: Path, tmp_path: Path) -> Session:
    """Return a session on the demo ledger and an earlier step of the same training."""
    names = ("demo.parquet", "demo-early.parquet")
    shown, early = (load_ledger(shutil.copy(samples / name, tmp_path / name)) for name in names)
    return Session(shown, PreferenceSettings(), [early])


@pytest.fixture
def show() -> Iterator[Show]:
    """Return a function that shows the runs of a session."""
    with ExitStack() as stack:

        def call(session: Session, size: tuple[int, int] = (80, 24)) -> Terminal:
            terminal = stack.enter_context(Terminal(PrefscopeApp(session), size))
            terminal.press("5")
            return terminal

        yield call


def open_runs(folder: Path, *runs: Sequence[dict[str, Any]]) -> Session:
    """Return a session on runs whose files are named by number."""
    ledgers = [write_pairs(folder / f"{number}.parquet", run).ledger for number, run in enumerate(runs)]
    return Session(ledgers[0], PreferenceSettings(), ledgers[1:])


def margins(*values: float) -> list[dict[str, Any]]:
    return [{"margin": value} for value in values]


def tab(terminal: Terminal) -> str:
    return str(terminal.app.screen.query_one(ContentSwitcher).current)


def row(terminal: Terminal, number: int) -> list[str]:
    """Return the words of a row of the table."""
    table = terminal.app.screen.query_one(RunTable)
    return " ".join(cell.plain for cell in table.get_row_at(number) if isinstance(cell, Text)).split()


def quadrants(terminal: Terminal) -> Quadrants:
    return terminal.app.screen.query_one(Quadrants)


def test_two_runs_fit_80_by_24(session: Session, show: Show) -> None:
    assert_golden(show(session), "runs")


def test_two_runs_fit_120_by_36(session: Session, show: Show) -> None:
    terminal = show(session, (120, 36))
    terminal.press("tab", "down", "right")
    assert_golden(terminal, "runs")


def test_the_figures_of_each_run_are_those_of_its_overview(session: Session, show: Show) -> None:
    terminal = show(session)
    assert row(terminal, 0)[:5] == ["A", "demo", "170", "91.2%", "(86–95)"]
    assert row(terminal, 1)[:5] == ["B", "demo-early", "170", "74.1%", "(67–80)"]
    terminal.press("enter", "1")
    assert "74.1% (67–80)" in terminal.text


def test_differences_are_shown_with_paired_intervals(session: Session, show: Show) -> None:
    text = show(session).text
    for told in ("−17.1 pp (−23.5 to −10.9), p<0.0001", "−0.151 (−0.179 to −0.123)", "+0.0641 (+0.0541 to", "−0.06"):
        assert told in text


def test_the_differences_of_a_scope_stand_beside_those_of_the_rest(session: Session, show: Show) -> None:
    session.set_filter("margin < 0.05")
    terminal, rest = show(session), session.rest
    assert isinstance(rest, PairedView)
    expected = compare(rest)
    found = expected.margin
    assert "rest: B − A" in terminal.text
    (told,) = [line for line in terminal.text.splitlines() if line.startswith(" margin")]
    assert told.rstrip().endswith(f"{signed(found.difference, 3)} ({signed(found.low, 3)} to {signed(found.high, 3)})")


def test_a_tall_screen_shows_every_loss(session: Session, show: Show) -> None:
    terminal = show(session)
    assert "ipo loss" not in terminal.text
    terminal.resize(120, 36)
    assert "ipo loss" in terminal.text
    assert "simpo loss" in terminal.text


@pytest.mark.parametrize(
    ("keys", "quadrant"),
    [("h", "only_b"), ("l", "both"), ("j", "neither"), ("jl", "only_a"), ("ljhk", "only_b"), ("jlk", "both")],
)
def test_arrow_keys_pick_a_quadrant_and_enter_lists_its_pairs(
    session: Session, show: Show, keys: str, quadrant: str
) -> None:
    terminal = show(session)
    terminal.press("tab", *keys)
    assert quadrants(terminal).picked == quadrant
    assert f": {COUNTS[quadrant]} pairs, " in terminal.text
    terminal.press("enter")
    assert tab(terminal) == "pairs"
    assert session.order.size == COUNTS[quadrant]


def test_letters_pick_a_quadrant_like_arrows(session: Session, show: Show) -> None:
    terminal = show(session)
    terminal.press("tab", "down", "right")
    assert quadrants(terminal).picked == "only_a"
    terminal.press("up", "left")
    assert quadrants(terminal).picked == "only_b"


def test_the_count_of_the_picked_quadrant_is_reversed(session: Session, show: Show) -> None:
    terminal = show(session)
    terminal.press("tab", "down", "right")
    (reversed_text,) = [
        segment.text
        for strip in terminal.strips
        for segment in strip
        if segment.style and segment.style.reverse and "right" in segment.text
    ]
    assert reversed_text == " 31 only A right "


@pytest.mark.parametrize(
    ("x", "y", "quadrant"),
    [(2, 1, "only_b"), (70, 1, "both"), (2, 10, "neither"), (70, 10, "only_a"), (8, 3, "only_b"), (60, 3, "both")],
)
def test_a_click_picks_a_quadrant_and_a_double_click_lists_its_pairs(
    session: Session, show: Show, x: int, y: int, quadrant: str
) -> None:
    terminal = show(session)
    terminal.click("#quadrants", x, y)
    assert (tab(terminal), quadrants(terminal).picked) == ("runs", quadrant)
    terminal.click("#quadrants", x, y, times=2)
    assert tab(terminal) == "pairs"
    assert session.order.size == COUNTS[quadrant]


def test_enter_lists_nothing_without_a_picked_quadrant(session: Session, show: Show) -> None:
    terminal = show(session)
    terminal.press("tab", "enter")
    assert tab(terminal) == "runs"


def test_points_have_the_colour_of_their_quadrant(tmp_path: Path, show: Show) -> None:
    terminal = show(open_runs(tmp_path, margins(-1, 1, 1, -1), margins(1, -1, 1, -1)))
    dots = [
        segment.style.color.get_truecolor().hex
        for strip in terminal.strips
        for segment in strip
        if segment.style and segment.style.color and any("\u2800" < one <= "\u28ff" for one in segment.text)
    ]
    blue = THEMES[0].primary
    assert dots == [SKY, blue, blue, ORANGE]


def test_the_run_under_the_cursor_is_compared(tmp_path: Path, show: Show) -> None:
    session = open_runs(tmp_path, margins(1, -1), margins(1, 1), margins(-1, -1))
    terminal = show(session)
    assert [row(terminal, number)[0] for number in range(3)] == ["A", "B", "2"]
    terminal.press("down")
    assert [row(terminal, number)[0] for number in range(3)] == ["A", "1", "B"]
    assert "margin of B 2 ↑ against A 0 →" in terminal.text
    assert " 1 only A right " in terminal.text


def test_enter_shows_the_run_and_compares_it_with_the_previous_one(session: Session, show: Show) -> None:
    session.set_preferences(PreferenceSettings(beta=0.2))
    session.move_to(33)
    terminal = show(session)
    terminal.press("enter")
    assert [row(terminal, number)[:2] for number in range(2)] == [["B", "demo"], ["A", "demo-early"]]
    assert terminal.lines[0].startswith(" prefscope  demo-early.parquet   170 pairs   β=0.2   B demo")
    assert "+17.1 pp (+10.9 to +23.5)" in terminal.text
    assert session.position == 33
    terminal.press("enter")
    assert terminal.lines[0].startswith(" prefscope  demo.parquet   170 pairs   β=0.2   B demo-early")


def test_every_screen_shows_the_chosen_run(session: Session, show: Show) -> None:
    terminal = show(session, (120, 36))
    terminal.press("3")
    assert "margin +0.14 (B +0.02)" in terminal.text
    terminal.press("4", "5", "enter", "1")
    assert "74.1% (67–80)" in terminal.text
    terminal.press("2")
    assert "+0.02     +0.14" in cursor_line(terminal)
    terminal.press("3")
    assert "margin +0.02 (B +0.14)" in terminal.text
    terminal.press("4")
    assert "mean margin 0.0603 ±0.0166 0.0603" in " ".join(terminal.text.split())


def test_a_click_moves_the_cursor_to_a_run_and_a_second_click_shows_it(session: Session, show: Show) -> None:
    terminal = show(session)
    terminal.click("#run-table", 5, 2)
    assert session.ledger.path.name == "demo.parquet"
    terminal.click("#run-table", 5, 2)
    assert session.ledger.path.name == "demo-early.parquet"


def test_a_filter_on_columns_missing_from_the_other_run_is_cleared_with_a_notice(tmp_path: Path, show: Show) -> None:
    own: dict[str, Any] = {"score": ("number", [1.0, 2.0])}
    shown = write_pairs(tmp_path / "a.parquet", margins(1, -1), extra=own).ledger
    session = Session(shown, PreferenceSettings(), [write_pairs(tmp_path / "b.parquet", margins(1, 1)).ledger])
    session.set_filter("score > 1")
    terminal = show(session, (120, 36))
    terminal.press("enter")
    assert "Filter cleared (a column is not available now):" in " ".join(terminal.text.split())
    assert session.order.size == 2


def test_a_knob_updates_the_runs_too(session: Session, show: Show) -> None:
    terminal = show(session)
    terminal.press("4", *["right_square_bracket"] * 3, "5")
    assert "−0.302 (−0.35" in terminal.text


def test_marks_do_not_change_the_comparison(session: Session, show: Show) -> None:
    terminal = show(session)
    before = terminal.lines[2:]
    session.set_marks({0: Mark("drop")})
    terminal.press("2", "5")
    assert terminal.lines[2:] == before


def test_a_single_ledger_shows_how_to_add_others(demo: Session, show: Show) -> None:
    terminal = show(demo, (120, 36))
    assert "prefscope view step-1000.parquet step-2000.parquet" in terminal.text
    terminal.press("question_mark")
    assert "Several ledgers of the same pairs," in terminal.text


def test_runs_without_shared_pairs_are_reported(tmp_path: Path, show: Show) -> None:
    other = [{"pair_id": "f" * 16}]
    terminal = show(open_runs(tmp_path, margins(1), other))
    assert "⚠ A and B share no pair: score the same data set with both checkpoints." in terminal.text
    assert "no pairs to compare" in terminal.text
    terminal.press("tab", "l", "enter")
    assert tab(terminal) == "runs"


def test_runs_without_a_reference_are_compared_by_log_probs_per_token(tmp_path: Path, show: Show) -> None:
    runs = [
        [{"policy_chosen_logps": logp, "policy_rejected_logps": -60.0} for logp in logps]
        for logps in ((-30.0, -50.0, -30.0), (-30.0, -30.0, -50.0))
    ]
    ledgers = [write_pairs(tmp_path / f"{n}.parquet", run, has_reference=False).ledger for n, run in enumerate(runs)]
    session = Session(ledgers[0], PreferenceSettings(), ledgers[1:])
    terminal = show(session)
    assert "⚠ A or B has no reference: compared by log-prob per token, chosen − rejected." in terminal.text
    assert "chosen ahead         66.7%      66.7%   +0.0 pp" in terminal.text
    terminal.press("tab", "h", "enter")
    assert session.order.tolist() == [1]


def test_runs_with_and_without_a_reference_share_only_comparable_figures(tmp_path: Path, show: Show) -> None:
    free = write_pairs(tmp_path / "free.parquet", margins(1, 2), has_reference=False).ledger
    shown = write_pairs(tmp_path / "shown.parquet", margins(1, 2)).ledger
    terminal = show(Session(shown, PreferenceSettings(), [free]))
    assert row(terminal, 1) == ["B", "free", "2", "·", "·", "·", "·"]
    terminal.press("enter")
    assert "chosen ahead" in terminal.lines[2]
    assert row(terminal, 0)[:6] == ["B", "shown", "2", "·", "·", "·"]


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 36)])
def test_many_runs_with_hostile_names_fit_every_size(tmp_path: Path, show: Show, size: tuple[int, int]) -> None:
    names = ["[bold]x[/]", "日本" * 20, "a\u202eb", "x" * 80, "👨‍👩‍👧‍👦", "plain", "[/foo]", "more"]
    ledgers = [write_pairs(tmp_path / f"{name}.parquet", margins(1, -1, 2)).ledger for name in names]
    terminal = show(Session(ledgers[0], PreferenceSettings(), ledgers[1:]), size)
    terminal.press("down", "enter", "down")
    assert terminal.widths == {size[0]}
    assert len(terminal.lines) == size[1]
