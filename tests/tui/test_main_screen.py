"""The whole app on the demo ledger: its numbered screens, and switching between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from textual.color import Color
from textual.widgets import ContentSwitcher, DataTable

from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from prefscope.tui.screens.main import TABS
from prefscope.tui.widgets.histogram import Histogram
from prefscope.tui.widgets.knob_list import KnobList
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

Show = Callable[..., Terminal]
SIZES = [(80, 24), (120, 36)]


@pytest.fixture
def show(demo: Session) -> Iterator[Show]:
    """Return a function that shows the app on the demo ledger."""
    with ExitStack() as stack:

        def call(size: tuple[int, int] = (120, 36), *, ascii_only: bool = False) -> Terminal:
            return stack.enter_context(Terminal(PrefscopeApp(demo, ascii_only=ascii_only), size))

        yield call


def tab(terminal: Terminal) -> str:
    """Return the shown pane."""
    return str(terminal.app.screen.query_one(ContentSwitcher).current)


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x36"])
@pytest.mark.parametrize("name", TABS)
def test_every_screen_fills_the_terminal_and_no_line_is_longer(show: Show, size: tuple[int, int], name: str) -> None:
    terminal = show(size)
    terminal.press(str([*TABS].index(name) + 1))
    assert tab(terminal) == name
    assert len(terminal.strips) == size[1]
    assert terminal.widths == {size[0]}
    assert terminal.lines[0].startswith(" prefscope  demo.parquet   170 pairs   β=0.1")
    assert TABS[name] in terminal.lines[1]


def test_the_overview_has_the_figures_of_the_summary(show: Show) -> None:
    text = show().text
    for figure in ("91.2% (86–95)", "14 wrong, 1 tied", "+0.211 ±0.039", "0.6008 ±0.015", "longer wins"):
        assert figure in text


def test_two_plots_fit_a_small_terminal_and_p_shows_the_other_two(show: Show) -> None:
    terminal = show((80, 24))
    assert "pairs ↑ by margin" in terminal.text
    assert "loss ↑ against beta" not in terminal.text
    terminal.press("p")
    assert "pairs ↑ by margin" not in terminal.text
    assert "loss ↑ against beta" in terminal.text
    terminal.press("p")
    assert "pairs ↑ by margin" in terminal.text


def test_a_bin_of_the_histogram_opens_its_pairs(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("right", "right")
    told = terminal.app.screen.query_one(Histogram).border_subtitle
    terminal.press("enter")
    assert tab(terminal) == "pairs"
    assert f": {len(demo.order)} pairs" in str(told)
    margins = demo.view.column("margins")[demo.order]
    assert 0 < len(margins) < 170
    assert margins.max() - margins.min() < 0.1


def test_a_picked_bin_is_forgotten_if_the_bins_change_with_the_width(show: Show) -> None:
    terminal = show(size=(120, 36))
    terminal.press("right", "right")
    histogram = terminal.app.screen.query_one(Histogram)
    assert histogram.picked is not None
    terminal.resize(80, 24)
    assert histogram.border_subtitle == "← → pick a bin"
    terminal.press("enter")
    assert tab(terminal) == "overview"


def test_a_pair_that_is_opened_after_the_pair_screen_was_left_is_drawn(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("3", "2", "down", "enter")
    assert (tab(terminal), demo.position) == ("pair", 1)
    assert "What is 17 times 24?" in terminal.text


def test_keys_that_come_faster_than_screens_are_laid_out_do_no_harm(show: Show) -> None:
    terminal = show()
    terminal.send(
        *("3", "2", "down", "enter", "down", "w", "tab", "up", "i", "j", "i", "pagedown", "1", "right", "right")
    )
    terminal.send(
        *("5", "down", "tab", "right", "6", "down", "4", "right_square_bracket", "3", "down", "up", "tab", "G")
    )
    terminal.press("3")
    assert tab(terminal) == "pair"


def test_the_bins_together_have_every_pair(show: Show, demo: Session) -> None:
    terminal = show()
    histogram = terminal.app.screen.query_one(Histogram)
    seen: list[int] = []
    picked: list[int | None] = [None]
    terminal.press("right")
    while histogram.picked != picked[-1]:
        picked.append(histogram.picked)
        terminal.press("enter")
        seen += demo.order.tolist()
        terminal.press("escape", "1", "right")
    assert sorted(seen) == list(range(170))


def test_a_bin_opens_pairs_by_their_log_prob_gap_without_a_reference(tmp_path: Path) -> None:
    logps = [{"policy_chosen_logps": -40.0 - row, "policy_rejected_logps": -60.0} for row in range(20)]
    session = write_pairs(tmp_path / "free.parquet", logps, has_reference=False)
    with Terminal(PrefscopeApp(session), (120, 36)) as terminal:
        terminal.press("right")
        told = str(terminal.app.screen.query_one(Histogram).border_subtitle)
        terminal.press("enter")
        assert tab(terminal) == "pairs"
        assert 0 < session.order.size < 20
        assert f": {session.order.size} pairs" in told


def test_a_click_on_a_tab_shows_its_pane(show: Show) -> None:
    terminal = show()
    terminal.click("#tabs", terminal.lines[1].index("Pairs"), 0)
    assert tab(terminal) == "pairs"


def test_moving_a_knob_updates_every_screen(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("4", *["right_square_bracket"] * 3)
    assert demo.preferences.beta == 0.2
    assert "0.2 *" in terminal.text
    assert "β=0.2" in terminal.lines[0]
    terminal.press("1")
    assert "+0.211" not in terminal.text
    terminal.press("4", "backslash", "1")
    assert "+0.211" in terminal.text
    assert demo.preferences == demo.initial


def test_a_knob_keeps_up_with_keys_that_are_faster_than_its_redraws(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("4")
    knobs = terminal.app.screen.query_one(KnobList)
    for _ in range(3):
        knobs.action_turn(1)
    terminal.rest()
    assert demo.preferences.beta == 0.2


def test_a_knob_moves_to_where_its_track_is_clicked(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("4")
    line = next(line for line in terminal.lines if "beta" in line and "●" in line)
    terminal.click("#knobs", line.index("●") + 10, 0)
    assert 0.1 < demo.preferences.beta < 1


def test_all_knobs_can_be_reset_at_once(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("4", "right_square_bracket", "down", "right_curly_bracket")
    assert demo.preferences != demo.initial
    terminal.press("backspace")
    assert demo.preferences == demo.initial


def test_another_loss_can_be_shown(show: Show) -> None:
    terminal = show()
    terminal.press("4")
    assert "mean dpo loss ↑ against beta" in terminal.text
    terminal.press("L", "L")
    assert "mean simpo loss ↑ against beta" in terminal.text


def test_the_pairs_are_listed_by_their_gradient_weight(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("4", "enter")
    weights = demo.view.column("dpo_weight")[demo.order].tolist()
    assert tab(terminal) == "pairs"
    assert weights == sorted(weights, reverse=True)


def test_a_flag_opens_its_pairs(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("6", *["down"] * 8)
    assert "chosen and rejected are the same" in terminal.text
    assert "The Parthenon" in terminal.text
    terminal.press("enter")
    assert tab(terminal) == "pairs"
    assert demo.expression == "flag(identical)"
    assert demo.order.tolist() == [159]


def test_flags_that_no_pair_has_are_shown_on_request(show: Show) -> None:
    terminal = show()
    terminal.press("6")
    assert terminal.app.screen.query_one("#health DataTable", DataTable).row_count == 12
    terminal.press("v")
    assert terminal.app.screen.query_one("#health DataTable", DataTable).row_count == 24


def test_an_opened_pair_is_shown_on_the_pair_screen(show: Show, demo: Session) -> None:
    terminal = show()
    terminal.press("2", "down", "down", "enter")
    assert tab(terminal) == "pair"
    assert demo.position == 2
    assert "row 2" in terminal.text


def test_a_terminal_that_is_too_small_shows_a_message_and_keeps_its_state(show: Show, demo: Session) -> None:
    terminal = show((80, 24))
    terminal.press("2", "down")
    terminal.resize(59, 24)
    assert "Make the window larger: at least 60 × 16." in terminal.text
    terminal.resize(80, 24)
    assert tab(terminal) == "pairs"
    assert demo.position == 1


def test_help_lists_the_keys_of_the_screen_and_can_be_closed(show: Show) -> None:
    terminal = show()
    terminal.press("question_mark")
    assert "All pairs at a glance." in terminal.text
    assert "Next bin" in terminal.text
    terminal.press("question_mark")
    assert "All pairs at a glance." not in terminal.text


@pytest.mark.parametrize("name", TABS)
def test_only_ascii_is_painted_on_request(show: Show, name: str) -> None:
    terminal = show((80, 24), ascii_only=True)
    terminal.press(str([*TABS].index(name) + 1))
    for strip in terminal.strips:
        segments = list(strip)
        for line_filter in terminal.app.get_line_filters():
            segments = line_filter.apply(segments, Color(0, 0, 0))
        text = "".join(segment.text for segment in segments)
        assert text.isascii()
        assert len(text) == 80


def test_resizing_keeps_filter_order_cursor_and_ticked_columns(show: Show, demo: Session) -> None:
    terminal = show((80, 24))
    terminal.press("2", "/", *"margin < 0", "enter", ">", "s", "j", "c", "space")
    ticked = [line for line in terminal.lines if "[ ] r_chs" in line]
    position, order = demo.position, demo.order.tolist()
    terminal.resize(120, 36)
    assert [line.strip() for line in terminal.lines if "[ ] r_chs" in line] == [ticked[0].strip()]
    terminal.press("escape")
    terminal.resize(80, 24)
    assert (demo.position, demo.order.tolist(), demo.expression) == (position, order, "margin < 0")
    assert f"▶ {position:>3}" in terminal.text


@pytest.mark.parametrize("theme", ["prefscope-dark", "prefscope-light", "ansi-dark", "ansi-light"])
def test_the_picked_bin_can_be_seen_without_colours(show: Show, theme: str) -> None:
    terminal = show()
    terminal.app.theme = theme
    before = terminal.lines
    terminal.press("right")
    histogram = terminal.app.screen.query_one(Histogram)
    start, stop = histogram._columns(histogram.picked or 0)
    bars = [line[start:stop] for line in histogram.lines]
    assert any(set(bar) & {"█", "▒"} for bar in bars)
    changed = [(a, b) for a, b in zip(before, terminal.lines, strict=True) if a != b and "pick a bin" not in a]
    assert {*"".join(b for _, b in changed)} & {"░", "▓"}
    assert [b.translate(str.maketrans("░▓", "▒█")) for _, b in changed] == [a for a, _ in changed]
