"""Untrusted text: characters that control a terminal or are invisible become pictures or codes."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.report.visible import visible, visible_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J", "␛[2J"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("\x9b31m", "\\u009b31m"),
        ("\x9d0;title\x9c", "\\u009d0;title\\u009c"),
        ("\u202eabc\u202c", "\\u202eabc\\u202c"),
        ("\u2066a\u2069", "\\u2066a\\u2069"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("\U000e0041\U000e007f", "\\ue0041\\ue007f"),
        ("a\ud800b", "a\\ud800b"),
        ("a\nb\r\nc", "a⏎b⏎c"),
        ("a\rb", "a␍b"),
        ("a\tb", "a→b"),
        ("\x00\x08\x7f", "␀␈␡"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\xad", "\\u00ad"),
        ("a\u115fb\u1160c\u3164d\uffa0", "a\\u115fb\\u1160c\\u3164d\\uffa0"),
        ("\u2800", "\\u2800"),
        ("a\u034f\u17b4\u180b", "a\\u034f\\u17b4\\u180b"),
        ("a\ufe00\U000e0100", "a\\ufe00\\ue0100"),
        ("\ufffe\uffff\ufdd0\U0001ffff", "\\ufffe\\uffff\\ufdd0\\u1ffff"),
    ],
    ids=[
        *("escape", "clipboard", "C1 CSI", "C1 OSC", "bidi override", "bidi isolate", "zero width", "tags"),
        *("lone surrogate", "line break", "carriage return", "tab", "NUL, BS, DEL", "line separators", "soft hyphen"),
        *("Hangul fillers", "blank Braille", "invisible marks", "variation selectors", "no characters"),
    ],
)
def test_characters_that_control_a_terminal_or_hide_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["[b]bold[/b] <i>", "日本語", "👩\u200d👩\u200d👧", "می\u200cخواهم", "é e\u0301", "אב", "❤\ufe0f", "한글"]
)
def test_ordinary_text_of_any_script_is_unchanged(text: str) -> None:
    assert visible(text) == text


def test_lines_stay_lines_and_the_rest_is_shown() -> None:
    assert visible_lines("a\x1b\tb\n\u202ec\r\n") == "a␛→b\n\\u202ec␍\n"


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_shown_is_a_control_or_an_invisible_character(text: str) -> None:
    hidden = {character for character in visible(text) if unicodedata.category(character) in ("Cc", "Cf", "Cs")}
    assert hidden <= {"\u200c", "\u200d"}


def test_no_character_of_unicode_gets_through_as_a_control() -> None:
    controls = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) == "Cc"]
    assert [character for character in controls if character in visible(character)] == []
