"""A response as a heat map of tokens: every text is shown safely, and the cursor shows a token's numbers."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType

from prefscope.tui.model.response import Response, Shown, differing
from prefscope.tui.model.token_lines import named, shown, words, wrap_tokens
from prefscope.tui.theme import DEFAULT_THEME, THEMES
from prefscope.tui.widgets.token_view import TokenView

HOSTILE = {
    "escape": "\x1b[2J",
    "clipboard": "\x1b]52;c;aGk=\x07",
    "c1": "\x9b31m",
    "markup": "[/foo][bold]",
    "cjk": "天空",
    "family": "👨\u200d👩\u200d👧",
    "joiner first": "\u200d👩",
    "joiner last": "👨\u200d",
    "selector first": "\ufe0f",
    "bidi": "\u202eabc",
    "zero width": "\u200b",
    "combining": "\u0301",
    "partial": r"\xe2",
    "carriage return": "\r",
    "tab": "\t",
    "nothing": "",
}


def response(tokens: list[str], logratios: list[float] | None = None) -> Response:
    """Return a response whose log π is −1, −2, …, with a reference unless there are no log-ratios."""
    policy = -np.arange(1.0, len(tokens) + 1)
    ref = None if logratios is None else policy - np.array(logratios)
    return Response("chosen", tokens, policy, ref)


def lines_of(tokens: list[str], width: int) -> list[str]:
    return ["".join(piece.text for piece in line) for line in wrap_tokens(tokens, width)]


@dataclass
class Seen:
    """What a view shows after some keys."""

    lines: list[str]
    cursor: int
    title: str
    subtitle: str
    styles: dict[str, Style]
    top: int


class Host(App[None]):
    """An app with a single view."""

    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, shown_response: Response) -> None:
        super().__init__()
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = DEFAULT_THEME
        self.console._color_system = None
        self.shown_response = shown_response

    def compose(self) -> ComposeResult:
        yield TokenView()

    def on_mount(self) -> None:
        view = self.query_one(TokenView)
        view.show(self.shown_response, title="+ chosen [/foo]")
        view.focus()


def see(
    one: Response,
    *keys: str,
    size: tuple[int, int] = (40, 8),
    values: Shown = "Δ",
    signs: bool = False,
    marks: list[bool] | None = None,
    click: tuple[int, int] | None = None,
) -> Seen:
    """Return what a view of a response shows after some keys, with styles by token text."""

    async def look() -> Seen:
        app = Host(one)
        async with app.run_test(size=size) as pilot:
            view = app.query_one(TokenView)
            view.show_values(values)
            view.show_signs(signs=signs)
            view.show_differing(None if marks is None else np.array(marks))
            await pilot.press(*keys)
            if click is not None:
                await pilot.click(TokenView, offset=click)
            await pilot.pause()
            strips = app.screen._compositor.render_strips()
            styles = {segment.text: segment.style for strip in strips for segment in strip if segment.style}
            lines = ["".join(segment.text for segment in strip) for strip in strips]
            title, subtitle = view._border_title, view._border_subtitle
            return Seen(lines, view.cursor, str(title), str(subtitle), styles, round(view.scroll_y))

    return asyncio.run(look())


@pytest.mark.parametrize(
    ("tokens", "lines"),
    [
        (["The", " quick", " brown", " fox"], ["The quick", " brown fox"]),
        (["re", "lig", "ious", "ness"], ["religious", "ness"]),
        (["a", " trans", "form", "er"], ["a", " transform", "er"]),
        (["a\n", "b"], ["a⏎", "b"]),
        (["a", ".\n\n", "b"], ["a.⏎", "⏎", "b"]),
        (["\r\n", "x"], ["⏎", "x"]),
        (["a\nb", "c"], ["a⏎", "bc"]),
        (["a\n"], ["a⏎", ""]),
        (["x" * 23], ["x" * 10, "x" * 10, "xxx"]),
        (["天空天空天空"], ["天空天空天", "空"]),
        ([], [""]),
    ],
    ids=[
        "words",
        "one long word",
        "word goes on",
        "break",
        "two breaks",
        "crlf",
        "inside",
        "end",
        "long",
        "wide",
        "none",
    ],
)
def test_lines_break_before_words_and_inside_a_word_between_tokens(tokens: list[str], lines: list[str]) -> None:
    assert lines_of(tokens, 10) == lines


@given(st.lists(st.text(max_size=30) | st.sampled_from(list(HOSTILE.values())), max_size=40), st.integers(2, 40))
def test_no_line_is_too_wide_and_no_token_is_lost(tokens: list[str], width: int) -> None:
    lines = wrap_tokens(tokens, width)
    assert all(cell_len("".join(piece.text for piece in line)) <= width for line in lines)
    assert all(sum(piece.width for piece in line) == cell_len("".join(piece.text for piece in line)) for line in lines)
    assert sorted({piece.token for line in lines for piece in line}) == list(range(len(tokens)))


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("\x1b[2J", "␛[2J"),
        ("", "∅"),
        ("\u0301", "◌\u0301"),
        ("\u200d", r"\u200d"),
        ("👨\u200d", r"👨\u200d"),
        ("👨\u200d👩", "👨\u200d👩"),
        ("\ufe0f", r"\ufe0f"),
        ("\u202e", r"\u202e"),
        (r"\xe2", r"\xe2"),
        ("\t", "→"),
    ],
)
def test_every_token_takes_at_least_one_cell(token: str, text: str) -> None:
    assert shown(token) == text
    assert cell_len(text) > 0


def test_a_long_token_is_truncated() -> None:
    assert named("天" * 20) == f"'{'天' * 12}…'"


@given(st.text())
def test_words_join_back_to_their_text(text: str) -> None:
    assert "".join(words(text)) == text.replace("\r\n", "\n")


def test_the_border_shows_the_token_under_the_cursor_with_its_numbers() -> None:
    seen = see(response(["a", " b", "c"], [0.5, -2.0, 0.0]), "l")
    assert seen.subtitle == "tok 2/3 ' b' logπ −2.00 ref +0.00 Δ −2.00 #1"


def test_the_border_shows_only_the_policy_without_a_reference() -> None:
    assert see(response(["a", " b"]), "l").subtitle == "tok 2/2 ' b' logπ −2.00 #1"


def test_a_nan_value_is_shown_as_a_dot_and_ranks_last() -> None:
    seen = see(response(["a", "b", "c"], [0.1, float("nan"), 0.2]), "l")
    assert seen.subtitle == "tok 2/3 'b' logπ −2.00 ref · Δ · #3"


@pytest.mark.parametrize(
    ("keys", "cursor"),
    [
        (["l", "l"], 2),
        (["right", "left"], 0),
        (["l", "h", "h"], 0),
        (["G"], 6),
        (["end", "l"], 6),
        (["G", "g"], 0),
        (["end", "home"], 0),
        (["w"], 2),
        (["w", "w"], 5),
        (["w", "w", "w"], 5),
        (["G", "b"], 5),
        (["w", "w", "b"], 2),
        (["j"], 3),
        (["down", "down"], 5),
        (["j", "up"], 0),
        (["l", "j", "k"], 1),
        (["pagedown"], 5),
        (["G", "ctrl+u"], 1),
    ],
)
def test_keys_move_the_cursor(keys: list[str], cursor: int) -> None:
    tokens = ["one", " two", " three\n", "four", " five\n", "six", " seven"]
    assert see(response(tokens, [0.0, 0.0, 2.0, 0.0, 0.0, -1.6, 0.0]), *keys).cursor == cursor


def test_moving_down_skips_a_token_of_line_breaks_only() -> None:
    assert see(response(["a", "\n\n\n", "b"], [0.0] * 3), "j", "j", "j").cursor == 2


def test_a_click_moves_the_cursor_to_the_token_under_the_mouse() -> None:
    assert see(response(["one", " two", "\n", "three"], [0.0] * 4), click=(6, 1)).cursor == 1
    assert see(response(["one", " two", "\n", "three"], [0.0] * 4), click=(30, 2)).cursor == 3


def test_the_line_of_the_cursor_is_always_in_view() -> None:
    tokens = [f"line {i}\n" for i in range(100)]
    down = see(response(tokens, [0.0] * 100), "G")
    assert down.top > 90
    assert any("line 99⏎" in line for line in down.lines)
    assert see(response(tokens, [0.0] * 100), "G", "g").top == 0


def test_resizing_keeps_the_cursor_and_its_line() -> None:
    async def resize() -> tuple[int, list[str]]:
        app = Host(response([f" word{i}" for i in range(500)], [0.0] * 500))
        async with app.run_test(size=(80, 10)) as pilot:
            await pilot.press("G")
            await pilot.resize_terminal(30, 10)
            await pilot.pause()
            strips = app.screen._compositor.render_strips()
            return app.query_one(TokenView).cursor, ["".join(segment.text for segment in strip) for strip in strips]

    cursor, lines = asyncio.run(resize())
    assert cursor == 499
    assert any(" word499" in line for line in lines)


def test_colours_show_sign_and_size_and_strong_tokens_are_underlined() -> None:
    names = {"up3": 2.0, "up1": 0.1, "none": 0.04, "down1": -0.1, "down3": -1.6}
    seen = see(response(["cursor", *names], [0.0, *names.values()]))
    backgrounds = {name: seen.styles[name].bgcolor for name in names}
    assert len(set(backgrounds.values())) == 5
    assert [bool(seen.styles[name].underline) for name in names] == [True, False, False, False, True]
    assert backgrounds["up3"] is not None
    assert backgrounds["up3"].triplet is not None
    assert backgrounds["up3"].triplet.hex == "#56b4e9"


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ("Δ", [0, 1, 2, 3, -1, -3, 0]),
        ("log π", [0, -1, -1, -2, -2, -2, -3]),
        ("rank", [2, 2, 3, 3, -2, -3, 0]),
    ],
)
def test_levels_follow_the_chosen_value(values: Shown, levels: list[int]) -> None:
    one = response(["t"] * 7, [0.04, 0.06, 0.4, 0.6, -0.1, -9.0, float("nan")])
    assert one.levels(values).tolist() == levels


def test_divergences_are_coloured_alike_whatever_they_do_to_the_margin_and_shown_at_the_cursor() -> None:
    divergences = np.array([0.0, 0.05, 0.19, 0.2, 1.0, math.nan, math.inf])
    one = replace(response(["t"] * 7, [0.1] * 7), divergences=divergences)
    assert one.levels("KL").tolist() == [0, -1, -1, -2, -3, 0, -3]
    assert one.choices[-1] == "KL"
    assert "KL" not in response(["t"], [0.1]).choices
    assert see(one, "l", "l", values="KL", size=(80, 8)).subtitle.endswith("ref −3.10 Δ +0.10 KL 0.19")
    assert see(one, "l", "l", size=(80, 8)).subtitle.endswith("Δ +0.10 #3")


def test_what_raises_the_rejected_response_lowers_the_margin() -> None:
    policy = np.full(4, -1.0)
    rejected = Response("rejected", ["t"] * 4, policy, policy - np.array([0.3, -0.3, 0.0, 0.7]))
    assert rejected.levels("Δ").tolist() == [-2, 2, 0, -3]
    assert rejected.levels("rank").tolist() == [-3, 3, 0, -3]


def test_marked_tokens_are_bold_and_underlined_and_the_cursor_goes_to_the_first() -> None:
    async def look() -> tuple[int, list[tuple[str, bool]]]:
        app = Host(response(["one ", "two ", "three ", "four"], [0.0] * 4))
        async with app.run_test(size=(40, 8)) as pilot:
            view = app.query_one(TokenView)
            view.mark(1, 3)
            await pilot.pause()
            segments = [one for one in view.render_line(0) if one.text.strip()]
            return view.cursor, [(one.text, bool(one.style and one.style.underline)) for one in segments]

    assert asyncio.run(look()) == (1, [("one ", False), ("two ", False), ("three ", True), ("four", False)])


@pytest.mark.parametrize("key", ["down", "up", "pagedown", "G", "l", "w"])
def test_keys_that_come_before_a_view_has_a_size_do_no_harm(key: str) -> None:
    async def press() -> int:
        app = Host(response(["one ", "two ", "three"], [0.0, 1.0, 2.0]))
        async with app.run_test(size=(40, 8)) as pilot:
            view = app.query_one(TokenView)
            view.display = False
            await pilot.pause()
            view.show(response(["four ", "five"], [0.0, 1.0]))
            for binding in [one for one in TokenView.BINDINGS if isinstance(one, Binding)]:
                if key in binding.key.split(","):
                    await view.run_action(binding.action)
            return view.cursor

    assert asyncio.run(press()) in {0, 1}


def test_signs_follow_tokens_if_colours_do_not_show_them() -> None:
    one = response(["a", " b", " c", " d\n", "e"], [0.1, 0.3, -2.0, -1.0, 0.0])
    assert see(one, signs=True).lines[1].strip("│ ") == "a b⁺ c⁻ d⁻⏎"
    assert see(one, signs=False).lines[1].strip("│ ") == "a b c d⏎"


def test_the_cursor_is_visible_without_colour() -> None:
    styles = see(response(["one", " two", " three"], [0.0, 2.0, 2.0]), "l").styles
    assert [bool(styles[text].reverse) for text in ("one", " two", " three")] == [False, True, False]


def test_tokens_missing_from_the_other_response_are_bold_and_italic() -> None:
    styles = see(response(["one", " two", " three"], [0.0] * 3), "G", marks=[True, False, True]).styles
    assert [(bool(styles[text].bold), bool(styles[text].italic)) for text in ("one", " two")] == [
        (True, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    ("tokens", "others", "expected"),
    [
        (["a", "b", "c"], ["a", "x", "c"], [False, True, False]),
        (["a", "b"], [], [True, True]),
        ([], ["a"], []),
        (["a"] * 3, ["a"] * 2, [False, False, True]),
        (["a"] * 1000, ["a"] * 1000 + ["b"], [False] * 1000),
    ],
    ids=["replaced", "nothing there", "empty", "one more", "long and monotonous"],
)
def test_differing_tokens_are_those_missing_from_the_other_response(
    tokens: list[str], others: list[str], expected: list[bool]
) -> None:
    assert differing(tokens, others).tolist() == expected


@pytest.mark.parametrize("token", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_token_is_shown_safely_everywhere(token: str) -> None:
    seen = see(response(["before", token, "after", token * 30], [0.0, -2.0, 0.0, 2.0]), "l", signs=True)
    assert all(cell_len(line) == 40 for line in seen.lines)
    assert not set("".join([*seen.lines, seen.subtitle])) & {"\x1b", "\x07", "\x9b", "\u202e", "\u200b", "\r", "\t"}
    assert seen.title == "+ chosen [/foo]"


def test_a_response_of_fifty_thousand_characters_can_be_scrolled_to_its_end() -> None:
    tokens = [f" tok{i}" for i in range(10_000)]
    seen = see(response(tokens, [0.0] * 10_000), "G", size=(80, 24))
    assert seen.cursor == 9_999
    assert any(line.startswith("│") and " tok9999" in line for line in seen.lines)


def test_a_response_without_values_is_shown_as_text() -> None:
    one = Response("chosen", words("\n".join(f"line {i}" for i in range(50))))
    seen = see(one, "j", "j", "l", "w")
    assert (seen.top, seen.cursor, seen.subtitle) == (2, 0, "")
    assert see(one, "G").top > 40


def test_an_empty_response_says_so() -> None:
    assert "no scored tokens" in see(response([], []), "l", "j", "w", "G", "g", "pageup").lines[1]


def test_a_shorter_response_that_arrives_while_the_view_is_hidden_is_painted_before_it_is_wrapped() -> None:
    async def look() -> str:
        app = Host(response([f"token{number} " for number in range(60)], [0.0] * 60))
        async with app.run_test(size=(40, 8)) as pilot:
            view = app.query_one(TokenView)
            view.display = False
            await pilot.pause()
            view.show(response(["one ", "two"], [0.0, 0.0]))
            return "".join(view.render_line(y).text for y in range(6))

    assert "token" not in asyncio.run(look())
