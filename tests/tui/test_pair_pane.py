"""One pair on the screen: its tokens, numbers and marks, whatever its texts are."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, Input, Static

from prefscope.ledger.marks import Mark, load_marks
from prefscope.ledger.table import load_ledger
from prefscope.settings import PreferenceSettings
from prefscope.tui.dialogs.pair import NoteDialog, TextsDialog, TopTokensDialog
from prefscope.tui.model import explainer
from prefscope.tui.model.session import Session, Sort
from prefscope.tui.panes.pair import PairPane
from prefscope.tui.widgets.running_sums import RunningSums
from prefscope.tui.widgets.token_view import TokenView
from prefscope.tui.widgets.why import Why
from tests.tui.pair_app import CHOSEN, PairApp, write_session
from tests.tui.terminal import Terminal, assert_golden

WRONG = {"chosen": [("a", -4.0, -1.0)], "rejected": [("b", -1.0, -2.0)]}
NARROW, WIDE = (80, 24), (120, 36)
DANGEROUS = {"\x1b", "\x07", "\x9b", "\u202e", "\u200b", "\r", "\t", "\x00"}
HOSTILE = {
    "escape": "\x1b[2J\x1b[31m",
    "clipboard": "\x1b]52;c;aGk=\x07",
    "c1": "\x9b31m",
    "null": "\x00",
    "markup": "[/foo] [bold",
    "cjk": "天空" * 30,
    "emoji": "👨\u200d👩\u200d👧" * 30,
    "bidi": "\u202eabc",
    "zero width": "\u200b" * 9,
    "breaks": "\r\n\n\t",
    "partial": r"\xe2\x82",
    "nothing": "",
}


@pytest.fixture
def show() -> Iterator[Callable[..., Terminal]]:
    """Return a function that shows a session's pair on a terminal."""
    with ExitStack() as stack:

        def open_app(session: Session, size: tuple[int, int] = NARROW) -> Terminal:
            return stack.enter_context(Terminal(PairApp(session), size))

        yield open_app


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Session]:
    """Return a function that writes a ledger and returns a session on it."""
    return lambda *pairs, **more: write_session(tmp_path / "ledger.parquet", pairs or [{}], **more)


def view_of(terminal: Terminal, side: str) -> TokenView:
    return terminal.app.query_one(f"#{side}", TokenView)


def titles(terminal: Terminal) -> list[str]:
    return [str(view_of(terminal, side)._border_title) for side in ("chosen", "rejected")]


def subtitle(terminal: Terminal, side: str = "chosen") -> str:
    return str(view_of(terminal, side)._border_subtitle)


def notifications(terminal: Terminal) -> list[str]:
    """Return the notifications."""
    return [notification.message for notification in terminal.app._notifications]


def test_a_small_terminal_stacks_the_responses(write: Callable[..., Session], show: Callable[..., Terminal]) -> None:
    assert_golden(show(write({"flags": "no_eos"}), NARROW), "pair")


def test_a_wide_terminal_shows_the_responses_side_by_side(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    session = write({"flags": "no_eos"}, extra={"category": ("text", ["code"]), "note": ("text", [None])})
    assert_golden(show(session, WIDE), "pair")


@pytest.mark.parametrize("size", [NARROW, WIDE], ids=["80x24", "120x36"])
def test_alternatives_stand_below_the_responses(
    size: tuple[int, int], write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    assert_golden(show(write(has_alternatives=True), size), "pair-alternatives")


def test_alternatives_follow_the_cursor_and_the_side(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    ranks = {"policy_chosen_token_ranks": [1, 22, 3, 4], "policy_rejected_token_ranks": [50, 60]}
    terminal = show(write(ranks, has_alternatives=True))
    found = []
    for key in ("home", "l", "tab", "l"):
        terminal.press(key)
        found.append(str(terminal.app.query_one("#instead", Static).content).split("  ")[0])
    assert found == ["policy rank 1", "policy rank 22", "policy rank 50", "policy rank 60"]


def test_hostile_alternatives_stay_on_their_line(write: Callable[..., Session], show: Callable[..., Terminal]) -> None:
    texts = [HOSTILE["escape"] + HOSTILE["breaks"] + HOSTILE["bidi"], HOSTILE["markup"]]
    terminal = show(write({"alternative_texts": texts}, has_alternatives=True))
    assert not DANGEROUS & set(terminal.text)
    assert sum("KL ≥ " in line for line in terminal.lines) == 1


def test_rewards_follow_the_knobs(write: Callable[..., Session], show: Callable[..., Terminal]) -> None:
    session = write()
    terminal = show(session)
    assert titles(terminal)[0] == "+ chosen  r=+0.08  Σlogπ −6.5  Σlogref −7.2"
    session.set_preferences(type(session.preferences)(beta=1.0))
    terminal.app.query_one(PairPane).show_session()
    terminal.rest()
    assert titles(terminal)[0] == "+ chosen  r=+0.75  Σlogπ −6.5  Σlogref −7.2"
    assert "margin +4.25" in terminal.lines[0]


def test_pairs_follow_the_order_of_the_session(write: Callable[..., Session], show: Callable[..., Terminal]) -> None:
    session = write({}, WRONG, {})
    session.set_sort(Sort("row", descending=True))
    session.move_to(0)
    terminal = show(session)
    seen = [terminal.lines[1].strip()]
    for key in ("J", ">", "J", "<"):
        terminal.press(key)
        seen.append(terminal.lines[1].strip())
    assert seen == ["prompt 2", "prompt 1", "prompt 0", "prompt 0", "prompt 1"]


def test_the_next_wrong_pair_is_found_or_a_notice_shown(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    session = write({}, WRONG, {}, WRONG)
    terminal = show(session)
    seen = []
    for key in ("n", "n", "n", "N", "N"):
        terminal.press(key)
        seen.append(session.position)
    assert seen == [1, 3, 3, 1, 1]
    assert notifications(terminal) == ["No more wrong pairs this way"] * 2


def test_cursor_moves_on_other_screens_are_followed(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    session = write({}, WRONG)
    terminal = show(session)
    session.move_to(1)
    terminal.app.query_one(PairPane).show_session()
    terminal.rest()
    assert terminal.lines[1].strip() == "prompt 1"


def test_tab_switches_between_the_responses(write: Callable[..., Session], show: Callable[..., Terminal]) -> None:
    terminal = show(write())
    terminal.press("tab", "l")
    assert (view_of(terminal, "chosen").cursor, view_of(terminal, "rejected").cursor) == (0, 1)
    terminal.press("tab", "l", "l")
    assert (view_of(terminal, "chosen").cursor, view_of(terminal, "rejected").cursor) == (2, 1)


@pytest.mark.parametrize("size", [NARROW, WIDE])
def test_zooming_gives_one_response_the_room_of_both(
    write: Callable[..., Session], show: Callable[..., Terminal], size: tuple[int, int]
) -> None:
    terminal = show(write(), size)
    terminal.press("c")
    assert [view_of(terminal, side).display for side in ("chosen", "rejected")] == [True, False]
    terminal.press("tab")
    assert [view_of(terminal, side).display for side in ("chosen", "rejected")] == [False, True]
    terminal.press("c")
    assert [view_of(terminal, side).display for side in ("chosen", "rejected")] == [True, True]


def test_v_cycles_through_the_values_and_the_legend_explains_the_colours(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write(), WIDE)
    legends = []
    for _ in range(5):
        legends.append(str(terminal.app.query_one(Why)._border_title).partition("why  ")[2])
        terminal.press("v")
    assert legends == [
        " raises   lowers  the margin: |Δ| ≥ 0.05 0.15 0.5",
        " surprising : −log π > 1 3 6",
        " surprising : −log ref > 1 3 6",
        " raises   lowers  the margin: rank ≤ 30 10 3",
        " raises   lowers  the margin: |Δ| ≥ 0.05 0.15 0.5",
    ]


def test_measured_divergences_have_a_sum_in_the_facts_a_colouring_and_a_legend(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write(has_divergences=True), WIDE)
    assert re.search(r"  KL \d\.\d\d \d\.\d\d( |$)", "\n".join(terminal.lines), re.MULTILINE)
    for _ in range(4):
        terminal.press("v")
    legend = str(terminal.app.query_one(Why)._border_title).partition("why  ")[2]
    assert legend == " models differ : KL ≥ 0.05 0.2 1"
    assert " KL 0.00" in str(view_of(terminal, "chosen").border_subtitle)


def test_tokens_missing_from_the_other_response_are_marked_on_demand(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write())
    terminal.press("d")
    bold = {segment.text for strip in terminal.strips for segment in strip if segment.style and segment.style.italic}
    assert bold == {" None", ".⏎", "Done", " []"}
    terminal.press("d")
    assert not any(segment.style and segment.style.italic for strip in terminal.strips for segment in strip)


def test_signs_are_shown_on_demand_and_without_colours(
    write: Callable[..., Session], show: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = show(write())
    assert "Use None.⏎" in terminal.text
    terminal.press("s")
    assert "Use⁺ None⁻.⏎" in terminal.text
    monkeypatch.setenv("NO_COLOR", "1")
    assert "Use⁺ None⁻.⏎" in show(write()).text


def test_the_caption_says_what_adds_to_the_margin_and_what_subtracts_from_it(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write(), WIDE)
    caption = str(terminal.app.query_one(RunningSums)._border_subtitle)
    assert caption == "margin +0.43: gross +0.60 −0.18"


def test_the_cursor_is_shown_in_the_running_sums(write: Callable[..., Session], show: Callable[..., Terminal]) -> None:
    terminal = show(write())
    terminal.press("i", "i")
    places = []
    for key in ("g", "l", "G"):
        terminal.press(key)
        places.append(terminal.lines[-1].find("┃"))
    assert places == sorted(places)
    assert places[-1] == 79


def test_the_explanation_says_what_the_margin_is_made_of(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write(), WIDE)
    lines = [str(option.prompt) for option in terminal.app.query_one(Why).options]
    assert lines == [
        "Ranked right by 0.425: the policy raised the chosen response (+0.075) and lowered the rejected one (−0.350).",
        (
            "Most for the chosen response: the rejected response's only sentence “Use []” +0.350 and the chosen "
            "response's 2nd sentence “Done” +0.200; most against it: the chosen response's 1st sentence “Use None.” "
            "−0.125."
        ),
        "By region: shared beginning of 1 token +0.050, first difference +0.175, middle +0.200.",
        "Gross plus +0.600, gross minus −0.175: 45% cancels.",
        (
            "Length: −0.156 comes from the chosen response's 2 more tokens (−0.0781 each on average), +0.581 from the "
            "difference per token."
        ),
        "+0.350  rejected 1  Use []",
        "+0.200  chosen 2  Done",
        "−0.125  chosen 1  Use None.",
    ]


def test_stepping_through_the_explanation_marks_its_tokens(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write())
    terminal.press("i", *["j"] * 6)
    assert (view_of(terminal, "chosen")._marked, view_of(terminal, "chosen").cursor) == ((3, 4), 3)
    assert view_of(terminal, "rejected")._marked == (0, 0)
    terminal.press("k")
    assert [view_of(terminal, side)._marked for side in ("chosen", "rejected")] == [(0, 0), (0, 2)]


def test_i_goes_to_the_explanation_and_on_a_small_screen_to_the_running_sums(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write())
    assert not terminal.app.query_one(RunningSums).display
    terminal.press("i")
    assert terminal.app.query_one(Why).has_focus
    terminal.press("tab")
    assert view_of(terminal, "chosen").has_focus
    terminal.press("i", "i")
    assert (terminal.app.query_one(RunningSums).display, terminal.app.query_one(Why).display) == (True, False)
    assert "running Σ" in terminal.text
    terminal.press("i")
    assert (terminal.app.query_one(RunningSums).display, terminal.app.query_one(Why).has_focus) == (False, True)


def test_the_explanation_follows_beta_and_run_b(samples: Path, show: Callable[..., Terminal]) -> None:
    ledgers = [load_ledger(samples / name) for name in ("demo.parquet", "demo-early.parquet")]
    session = Session(ledgers[0], PreferenceSettings(), ledgers[1:])
    session.move_to(115)
    terminal = show(session, WIDE)
    text = "\n".join(str(option.prompt) for option in terminal.app.query_one(Why).options)
    assert "Ranked wrong by 0.234" in text
    assert "Run B (demo-early) has −0.065; the difference is −0.169" in text
    session.set_preferences(PreferenceSettings(beta=1.0))
    terminal.app.query_one(PairPane).show_session()
    terminal.rest()
    assert "Ranked wrong by 2.342" in str(terminal.app.query_one(Why).options[0].prompt)


def test_the_nearest_prompts_of_a_large_ledger_are_found_in_the_background(
    write: Callable[..., Session], show: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explainer, "FEW", 1)
    terminal = show(write({"prompt": "boil an egg"}, {"prompt": "drive a car"}, {"prompt": "boil an egg now"}))
    terminal.finish()
    lines = [str(option.prompt) for option in terminal.app.query_one(Why).options]
    assert [line for line in lines if "nearest" in line] == [
        "Margins of the nearest prompts: row 2 +0.425 (60% alike)."
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"has_tokens": False}, "There are no token log-probs in this ledger"),
        ({"has_reference": False}, "without a reference: 2 × mean log π (SimPO's reward)"),
    ],
)
def test_the_explanation_says_what_is_missing(
    write: Callable[..., Session], show: Callable[..., Terminal], more: dict[str, bool], said: str
) -> None:
    terminal = show(write(**more), WIDE)
    assert said in "\n".join(str(option.prompt) for option in terminal.app.query_one(Why).options)


def test_the_top_tokens_are_listed_by_size_and_enter_goes_to_one(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write())
    terminal.press("t")
    table = terminal.app.screen.query_one(DataTable)
    rows = [[str(cell) for cell in table.get_row_at(at)][:5] for at in range(3)]
    assert rows == [
        ["' []'", "− rejected", "2", "−3.50", "+0.35"],
        ["'Done'", "+ chosen", "4", "+2.00", "+0.20"],
        ["' None'", "+ chosen", "2", "−1.75", "−0.18"],
    ]
    terminal.press("j", "j", "enter")
    assert subtitle(terminal).startswith("tok 2/4 ' None'")
    terminal.press("t", "escape")
    assert not isinstance(terminal.app.screen, TopTokensDialog)


def test_all_texts_can_be_read_one_after_the_other(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    session = write({"flags": "no_eos;empty", "prompt": "one\ntwo"}, extra={"category": ("text", ["code"])})
    terminal = show(session)
    terminal.press("p")
    seen = []
    for _ in range(5):
        seen.append(" / ".join(filter(None, (line.strip("│ ") for line in terminal.lines[1:-2]))))
        terminal.press("tab")
    assert seen[:4] == ["one / two", "Use None. / Done", "Use []", "category = code"]
    assert "⚠ no_eos: a response does not end with an end-of-sequence token" in seen[4]
    terminal.press("escape")
    assert not isinstance(terminal.app.screen, TextsDialog)


def test_space_cycles_through_keep_drop_swap_and_none_and_u_undoes(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    session = write()
    terminal = show(session)
    decisions = []
    for key in ("space", "space", "space", "space", "u"):
        terminal.press(key)
        decisions.append(session.mark_of(0).decision)
    assert decisions == ["keep", "drop", "swap", None, "swap"]
    assert terminal.lines[0].startswith(" [swap]  1/1")
    assert terminal.app.changes == 5  # type: ignore[attr-defined]
    assert dict(load_marks(session.ledger.path)) == {("0" * 16, 0): Mark("swap")}


def test_a_note_can_be_added_changed_and_removed(write: Callable[..., Session], show: Callable[..., Terminal]) -> None:
    session = write()
    terminal = show(session)
    terminal.press("m")
    terminal.type("[/x] hm")
    terminal.press("enter")
    assert terminal.lines[0].startswith(" [“[/x] hm”]  1/1")
    terminal.press("m")
    assert terminal.app.screen.query_one(Input).value == "[/x] hm"
    terminal.type("!")
    terminal.press("escape")
    assert session.mark_of(0) == Mark(note="[/x] hm")
    terminal.press("m", *["backspace"] * 7, "enter")
    assert session.mark_of(0) == Mark()
    assert not isinstance(terminal.app.screen, NoteDialog)


def test_a_mark_that_cannot_be_written_is_reported_and_not_kept(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    session = write()
    session.marks.path.mkdir()
    terminal = show(session)
    terminal.press("space", "u")
    assert session.mark_of(0) == Mark()
    assert [text.partition(" The")[0].rpartition(": ")[2].split(" (")[0] for text in notifications(terminal)] == [
        "the marks cannot be written",
        "There is no mark to undo",
    ]


def test_the_pair_id_and_the_token_are_copied(write: Callable[..., Session], show: Callable[..., Terminal]) -> None:
    terminal = show(write({"chosen": [("a\x1b", -1.0, -1.0)]}))
    terminal.press("y")
    assert terminal.app.clipboard == "0" * 16
    terminal.press("Y")
    assert terminal.app.clipboard == "a\x1b"


@pytest.mark.parametrize("size", [NARROW, WIDE])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_shown_safely_on_the_pane_and_in_its_dialogs(
    write: Callable[..., Session], show: Callable[..., Terminal], text: str, size: tuple[int, int]
) -> None:
    tokens = [("a", -1.0, -2.0), (text, -3.0, -1.0), (text, -1.0, -5.0)]
    session = write(
        {"prompt": text, "chosen": tokens, "rejected": tokens, "source_json": text},
        extra={text or "own": ("text", [text])},
    )
    session.set_marks({0: Mark("keep", text)})
    terminal = show(session, size)
    for keys in (
        ["l", "d", "s"],
        ["Y"],
        ["t"],
        ["escape", "p"],
        ["tab"],
        ["tab"],
        ["tab"],
        ["tab"],
        ["tab"],
        ["escape", "m"],
    ):
        terminal.press(*keys)
        assert terminal.widths == {size[0]}
        assert not set(terminal.text) & DANGEROUS


@pytest.mark.parametrize("size", [NARROW, WIDE, (60, 16)])
def test_long_responses_are_shown_at_once(
    write: Callable[..., Session], show: Callable[..., Terminal], size: tuple[int, int]
) -> None:
    tokens = [(f" tok{i}", -1.0, -1.0 - i % 3) for i in range(8_000)]
    terminal = show(write({"chosen": tokens, "prompt": "x" * 50_000}), size)
    terminal.press("G", "d", "p")
    terminal.press("escape")
    assert subtitle(terminal).startswith("tok 8000/8000 ' tok7999'")
    assert terminal.widths == {size[0]}


def test_an_empty_response_is_shown_as_having_no_tokens(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write({"rejected": [], "flags": "empty;nothing_scored"}))
    assert "no scored tokens" in terminal.text
    assert subtitle(terminal, "rejected") == "no heat map: no token was scored"
    terminal.press("tab", "l", "j", "w", "G", "v", "d", "t")
    assert terminal.widths == {80}


def test_nothing_is_listed_or_drawn_without_scored_tokens(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write({"chosen": [], "rejected": []}))
    terminal.press("t", "v", "Y")
    assert not terminal.app.query_one(RunningSums).display
    assert not isinstance(terminal.app.screen, TopTokensDialog)


def test_log_probs_that_are_not_finite_are_reported(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    nan = math.nan
    terminal = show(write({"chosen": [("a", nan, -1.0), ("b", -1.0, nan)], "flags": "non_finite"}))
    assert "not scored: a log-prob is NaN or infinite" in terminal.lines[0]
    assert titles(terminal)[0] == "+ chosen  not scored"
    assert "Δ ·" in subtitle(terminal)
    terminal.press("t", "escape", "v", "v", "v", "d", "w")
    assert terminal.widths == {80}


def test_only_the_policy_is_shown_without_a_reference(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write(has_reference=False), WIDE)
    assert titles(terminal) == ["+ chosen  Σlogπ −6.5", "− rejected  Σlogπ −5.0"]
    assert subtitle(terminal) == "tok 1/4 'Use' logπ −1.00 #3"
    assert str(terminal.app.query_one(RunningSums)._border_title).startswith("running Σ log π")
    terminal.press("n", "t")
    assert [str(column.label) for column in terminal.app.screen.query_one(DataTable).columns.values()] == [
        "token",
        "side",
        "at",
        "log π",
    ]


def test_texts_are_shown_with_the_reason_if_there_are_no_tokens(
    write: Callable[..., Session], show: Callable[..., Terminal]
) -> None:
    terminal = show(write(has_tokens=False), (120, 24))
    assert "Use None." in terminal.text
    assert subtitle(terminal).startswith("no heat map: the ledger has no tokens (scored with --no-tokens")
    assert not terminal.app.query_one(RunningSums).display
    terminal.press("l", "j", "w", "v", "d", "s", "t", "c", "Y")
    assert terminal.widths == {120}


def test_an_empty_ledger_shows_a_message_and_survives_every_key(
    write: Callable[..., Session], show: Callable[..., Terminal], tmp_path: Path
) -> None:
    session = write()
    empty = Session(session.ledger.only(session.ledger.stored["row"] > 0), session.preferences)
    terminal = show(empty)
    assert terminal.lines[0].strip() == "This ledger has no pairs."
    terminal.press("J", "<", "n", "tab", "v", "d", "s", "t", "p", "c", "space", "u", "m", "y", "Y", "l", "j")
    assert isinstance(terminal.app.query_one(PairPane), PairPane)
    assert not list(tmp_path.glob("*.marks.json"))


def test_every_pair_of_the_demo_is_shown_at_both_sizes(demo: Session, show: Callable[..., Terminal]) -> None:
    terminal = show(demo)
    for size in (NARROW, WIDE):
        terminal.resize(*size)
        for place in range(0, demo.ledger.num_pairs, 17):
            demo.move_to(place)
            terminal.app.query_one(PairPane).show_session()
            terminal.rest()
            assert terminal.widths == {size[0]}
            assert f"{place + 1}/170" in terminal.lines[0]


def test_every_token_of_the_fixture_sums_to_its_reward(write: Callable[..., Session]) -> None:
    pair: dict[str, Any] = write().ledger.pair(0)
    assert sum(policy - ref for _, policy, ref in CHOSEN) == pair["policy_chosen_logps"] - pair["ref_chosen_logps"]
