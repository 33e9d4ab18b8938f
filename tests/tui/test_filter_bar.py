"""The filter bar: live, forgiving while typing, with completion and history."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from prefscope.ledger.filters import Names
from prefscope.ledger.plain_search import read_filter
from prefscope.ledger.search import Needle, TextSearch
from prefscope.tui.dialogs.grammar import GrammarDialog
from prefscope.tui.model.completion import candidates, completions, replaced
from prefscope.tui.model.grammar import grammar
from prefscope.tui.model.session import Session
from prefscope.tui.widgets import filter_bar
from prefscope.tui.widgets.completion_list import CompletionList
from prefscope.tui.widgets.filter_bar import FilterBar
from prefscope.tui.widgets.filter_input import FilterInput
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
    shown.type("[/foo] < 0")
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
    ("stem", "expected"),
    [
        ("mar", ["margin", "margins", "mark("]),
        ("LEN", ["len_c"]),
        ("my", ["`my score`"]),
        ("ab", ["abs("]),
        ("ma", ["margin", "margins", "mark(", "matches("]),
        ("", []),
    ],
)
def test_the_beginning_of_a_name_has_the_expected_completions(stem: str, expected: list[str]) -> None:
    assert completions(stem, NAMES) == expected


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("margin < 0 and LEN", [("margin < 0 and len_c", "number    scored tokens of the chosen response")]),
        ("flag(ide", [("flag(identical)", "1 pair")]),
        ("mark(k", [("mark(keep)", "0 pairs")]),
        ("abs(mar", [("abs(margin", "number    chosen_rewards − rejected_rewards")]),
        ("catego", [("category", "text      from the data set")]),
        ('category == "ma', [('category == "math"', "17 pairs")]),
        ("category==MA", [('category=="math"', "17 pairs")]),
        ('outcome in ("win", "lo', [('outcome in ("win", "loss"', "14 pairs")]),
        ('not category in ("mat', [('not category in ("math"', "17 pairs")]),
        ("category != ath", [('category != "math"', "17 pairs")]),
        ("@ha", [("@hard", "margin < 0")]),
        ("margin < 0 and @", [("margin < 0 and @hard", "margin < 0")]),
        ("margin < ", []),
        ("margin ", []),
        ("prompt == x", []),
        ("me@ha", []),
    ],
)
def test_what_is_typed_has_these_completions(demo: Session, before: str, expected: list[tuple[str, str]]) -> None:
    demo.name_scope("hard", "margin < 0")
    found = [(replaced(before, one), one.detail) for one in candidates(before, demo)]
    assert found[: len(expected) or None] == expected


def listed(terminal: Terminal) -> list[str]:
    """Return the lines of the list of completions."""
    shown = terminal.app.screen.query_one(CompletionList)
    return [line.strip() for line in str(shown.content).split("\n")] if shown.display else []


def test_completions_are_listed_while_typing_and_arrows_choose(shown: Terminal) -> None:
    field = shown.app.screen.query_one(FilterInput)
    shown.type("len")
    assert [one.split()[0] for one in listed(shown)] == ["len_c", "len_r"]
    assert "scored tokens of the chosen response" in shown.text
    shown.press("down", "down")
    assert field.value == "len_r"
    assert listed(shown)[1].startswith("▶ len_r")
    shown.press("up", "enter")
    assert (field.value, listed(shown)) == ("len_c", [])
    assert isinstance(shown.app.focused, FilterInput)
    shown.type(" > 0")
    shown.press("enter")
    assert isinstance(shown.app.focused, PairTable)
    assert session_of(shown).order.size == 4


def test_escape_closes_the_list_with_what_was_typed(shown: Terminal) -> None:
    field = shown.app.screen.query_one(FilterInput)
    shown.type("len")
    shown.press("down", "escape")
    assert (field.value, listed(shown)) == ("len", [])
    assert isinstance(shown.app.focused, FilterInput)
    shown.press("escape")
    assert isinstance(shown.app.focused, PairTable)


def test_enter_searches_for_a_word_although_completions_are_listed(shown: Terminal) -> None:
    shown.press(*"pro", "enter")
    assert isinstance(shown.app.focused, PairTable)
    assert session_of(shown).expression == 'has("pro")'


def test_a_click_chooses_a_completion(shown: Terminal) -> None:
    shown.type("len")
    shown.click_text("len_r ")
    assert shown.app.screen.query_one(FilterInput).value == "len_r"


def test_a_function_is_completed_with_its_arguments(shown: Terminal) -> None:
    shown.type("fla")
    shown.press("down", "down", "enter")
    assert shown.app.screen.query_one(FilterInput).value == "flag("
    assert listed(shown)[0].split() == ["truncated)", "0", "pairs"]


def test_words_are_searched_for_and_highlighted(tmp_path: Path, show_pairs: Show) -> None:
    texts = ["Sort in PYTHON", "Write C", "", "straße"]
    pairs = [
        {"prompt": text, "chosen": f"a python {number}"[: 2 + 7 * (number == 1)]} for number, text in enumerate(texts)
    ]
    terminal = show_pairs(write_pairs(tmp_path / "four.parquet", pairs), (120, 36))
    terminal.press("/")
    terminal.type("python")
    session = session_of(terminal)
    assert (session.expression, session.order.tolist()) == ('has("python")', [0, 1])
    assert line(terminal).split()[-3:] == ["search", "✓", "2"]
    reversed_ = [one.text for strip in terminal.strips for one in strip if one.style and one.style.reverse]
    assert reversed_.count("PYTHON") == 2  # in the table and in the preview
    terminal.press("escape", "down")
    reversed_ = [one.text for strip in terminal.strips for one in strip if one.style and one.style.reverse]
    assert "python" in reversed_


def test_the_beginning_of_an_expression_is_not_kept_as_a_search(shown: Terminal) -> None:
    shown.type("margin")
    assert session_of(shown).expression == 'has("margin")'
    shown.type(" <")
    assert session_of(shown).expression == ""
    assert session_of(shown).order.size == 4


def test_the_cursor_returns_to_its_pair_when_it_matches_again(shown: Terminal) -> None:
    shown.press("escape", "j", "j", "/")
    session = session_of(shown)
    shown.type("margin")  # no pair has this word
    shown.type(" > -1")
    assert session.order.tolist() == [0, 1, 2]
    assert session.position == 2
    shown.type("0")
    assert session.position == 2


def test_an_invalid_pattern_is_underlined_where_it_is_wrong(shown: Terminal) -> None:
    shown.type("re:(a")
    assert "This pattern is invalid: missing )" in shown.text
    assert line(shown).endswith("✗")


def test_a_value_that_a_column_never_has_is_reported(tmp_path: Path, show_pairs: Show) -> None:
    extra = {"kind": ("text", ["code", "code", "chat"])}
    terminal = show_pairs(write_pairs(tmp_path / "three.parquet", [{}] * 3, extra=extra))  # type: ignore[arg-type]
    terminal.press("/")
    terminal.type('kind == "cod"')
    assert line(terminal).endswith("✓ 0")
    assert 'kind is never "cod"; it has: code 2, chat 1.' in terminal.text
    terminal.press("backspace")
    terminal.type('e"')
    assert "is never" not in terminal.text
    assert line(terminal).endswith("✓ 2")


def test_a_large_ledger_is_searched_in_a_thread(
    tmp_path: Path, show_pairs: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filter_bar, "FEW_PAIRS", 3)
    threads: list[str] = []
    prepare = TextSearch.prepare

    def noted(search: TextSearch, needle: Needle, is_stopped: Callable[[], bool]) -> None:
        threads.append(threading.current_thread().name)
        prepare(search, needle, is_stopped)

    monkeypatch.setattr(TextSearch, "prepare", noted)
    terminal = show_pairs(write_pairs(tmp_path / "many.parquet", [{"prompt": f"number {at}"} for at in range(9)]))
    terminal.press("/")
    terminal.type("number 7")
    terminal.finish()
    assert session_of(terminal).order.tolist() == [7]
    assert threads
    assert threading.main_thread().name not in threads


def test_a_question_mark_shows_the_grammar_of_an_empty_filter_only(show_app: Show, demo: Session) -> None:
    terminal = show_app((80, 24))
    terminal.press("2", "slash", "question_mark")
    assert isinstance(terminal.app.screen, GrammarDialog)
    assert 'category == "' in terminal.text
    terminal.press("j", "j", "j", "enter")
    field = terminal.app.screen.query_one(FilterInput)
    assert field.value == "margin < 0"
    assert demo.order.size == 14
    terminal.press("question_mark")
    assert field.value == "margin < 0?"


def test_every_example_of_the_grammar_is_valid(demo: Session) -> None:
    demo.name_scope("hard", "margin < 0")
    examples = [one for some in grammar(demo).values() for one in some]
    assert len(examples) > 15
    for one in examples:
        assert demo.is_valid(read_filter(one.text, demo.view.parse)), one.text
    assert [one.text for one in examples if one.text[0] in "@f"] == ["flag(identical)", "@hard"]


def test_a_filter_set_elsewhere_is_shown_in_the_line(shown: Terminal) -> None:
    session = session_of(shown)
    shown.press("escape")
    session.set_filter("margin > 0")
    shown.press("space")
    assert line(shown).split() == ["/", "margin", ">", "0", "✓", "1"]
