"""Searching texts: what is found, where the hits are, and what a plain search means."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.ledger.filters import FilterError, Names, parse_filter
from prefscope.ledger.plain_search import read_filter, written
from prefscope.ledger.search import Needle, folded, hits, problem_of
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View
from prefscope.settings import PreferenceSettings

LOGPS = (-1.0, -2.0, -1.0, -2.0)
TEXTS = [
    {"prompt": "Sort a list in Python", "chosen": "sorted(x)", "rejected": "no"},
    {"prompt": "Straße nach İstanbul", "chosen": "KAPI", "rejected": "Gro\u00dfe Fl\u00fc\u0308sse"},
    {"prompt": "用中文写一首诗", "chosen": "春眠不觉晓", "rejected": "اكتب قصيدة"},
    {"prompt": "ΟΔΥΣΣΕΥΣ", "chosen": 'say "hi" \\ now', "rejected": "\uff30\uff39\uff34\uff28\uff2f\uff2e"},
    {"prompt": "", "chosen": "cafe\u0301", "rejected": "re: python 3.11"},
]


@pytest.fixture
def ledger(write_pairs: Callable[..., Path]) -> Ledger:
    return load_ledger(write_pairs([{"logps": LOGPS, **texts} for texts in TEXTS], groups=2))


def rows(ledger: Ledger, typed: str) -> list[int]:
    view = View(ledger, PreferenceSettings())
    return np.flatnonzero(view.filter(read_filter(typed, view.parse))).tolist()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("python", [0, 3, 4]),
        ("PYTHON sort", [0]),
        ("sort PYTHON", [0]),
        ('"list in"', [0]),
        ('"in list"', []),
        ('"list in', [0]),
        ("strasse", [1]),
        ("STRAẞE", [1]),
        ("istanbul", [1]),
        ("İSTANBUL", [1]),
        ("kapı", [1]),
        ("中文", [2]),
        ("قصيدة", [2]),
        ("οδυσσευς", [3]),
        ("café", [4]),
        ("CAFE\u0301", [4]),
        ('say "hi', [3]),
        ("\\", [3]),
        ("re:pyth.n", [0, 4]),
        (r"sort re:\bin p", [0]),
        ("re: python", [4]),
        (r"re:^春", [2]),
        ("3.11", [4]),
        ("margin", []),
        ("nach", [1]),
        ("row < 2", [0, 1]),
        ('has("python") and not has("sort")', [3, 4]),
        ("not zebra", []),
    ],
)
def test_a_plain_search_finds_these_pairs(ledger: Ledger, typed: str, expected: list[int]) -> None:
    assert rows(ledger, typed) == expected


@pytest.mark.parametrize(
    ("typed", "expression"),
    [
        ("python", 'has("python")'),
        ('  sort  "a list"', 'has("sort") and has("a list")'),
        (r'x re:\d "y"', r'has("x") and matches("\\d \"y\"")'),
        ("margin < 0", "margin < 0"),
        ("true", "true"),
        ("", ""),
        ("c++ and/or 50%", 'has("c++") and has("and/or") and has("50%")'),
        ("don't", 'has("don\'t")'),
        ('"x == y"', 'has("x == y")'),
    ],
)
def test_a_plain_search_becomes_an_expression_that_means_the_same(ledger: Ledger, typed: str, expression: str) -> None:
    view = View(ledger, PreferenceSettings())
    assert read_filter(typed, view.parse) == expression
    view.parse(expression)


@pytest.mark.parametrize(
    ("typed", "pointed", "message"),
    [
        ("margni < 0", "margni", "There is no column margni"),
        ("margin <", "", "Something is missing at the end"),
        ("flag(nonsense)", "nonsense", "There is no such flag"),
        ("@hard python", "@hard", "There is no scope @hard"),
        ("x == y", "x", "In quotes, this searches the texts."),
        ("python re:(a", "(a", "This pattern is invalid: missing )"),
        (r"re:a(?=b)", "(?=", "This pattern is invalid: invalid perl operator"),
        ("re:x{1000}{1000}", "{1000}{1000}", "This pattern is invalid: bad repetition operator"),
    ],
)
def test_a_mistake_in_an_expression_or_a_pattern_is_pointed_at(
    ledger: Ledger, typed: str, pointed: str, message: str
) -> None:
    with pytest.raises(FilterError) as caught:
        rows(ledger, typed)
    assert typed[caught.value.start : caught.value.stop] == pointed
    assert message in str(caught.value)


def test_a_slice_of_the_ledger_is_searched_with_its_own_rows(ledger: Ledger) -> None:
    part = ledger.only(np.array([False, False, True, False, True]))
    assert rows(part, "python") == [1]
    assert part.search(Needle("中文")).tolist() == [True, False]


def test_a_search_that_is_stopped_is_not_kept(ledger: Ledger) -> None:
    needle = Needle("python")
    ledger.text_search.prepare(needle, lambda: True)
    assert not ledger.text_search.is_known(needle)
    ledger.text_search.prepare(needle, lambda: False)
    assert ledger.text_search.is_known(needle)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "(x+x+)+y"])
def test_a_pattern_that_backtracks_forever_in_other_engines_is_answered(
    write_pairs: Callable[..., Path], pattern: str
) -> None:
    text = "ax" * 50_000 + "!"
    ledger = load_ledger(write_pairs([{"logps": LOGPS, "prompt": text}]))
    assert rows(ledger, f"re:{pattern}") in ([], [0])
    assert hits(text[:3000], (Needle(pattern, is_pattern=True),)) is not None


@pytest.mark.parametrize(
    ("text", "needle", "expected"),
    [
        ("In Python, python", Needle("PYTHON"), ["Python", "python"]),
        ("die Straße", Needle("strasse"), ["Straße"]),
        ("die STRASSE", Needle("straße"), ["STRASSE"]),
        ("nach İstanbul", Needle("istanbul"), ["İstanbul"]),
        ("cafe\u0301!", Needle("caf\u00e9"), ["cafe\u0301"]),
        ("\uff30\uff39", Needle("py"), ["\uff30\uff39"]),
        ("中文写中文", Needle("中文"), ["中文", "中文"]),
        ("aaaa", Needle("aa"), ["aaaa"]),
        ("ab 12 cd 345", Needle(r"\d+", is_pattern=True), ["12", "345"]),
        ("Foo\nfoo", Needle("foo|o\nf", is_pattern=True), ["Foo", "foo"]),
        ("x \ufdd0 y1", Needle(r"\d", is_pattern=True), ["1"]),
        ("abc", Needle("x*", is_pattern=True), []),
        ("abc", Needle("z"), []),
    ],
)
def test_hits_are_where_the_text_has_the_needle(text: str, needle: Needle, expected: list[str]) -> None:
    assert [text[start:stop] for start, stop in hits(text, (needle,))] == expected


def test_overlapping_hits_of_several_needles_are_joined() -> None:
    assert hits("pythonic", (Needle("python"), Needle("onic"), Needle("p"))) == [(0, 8)]


@given(st.text(st.characters(codec="utf-8", max_codepoint=0x2FFF), max_size=30))
def test_case_and_normal_form_do_not_matter(text: str) -> None:
    for form in ("NFC", "NFD"):
        assert folded(unicodedata.normalize(form, text)) == folded(text)


@given(st.text(max_size=20), st.text(max_size=20), st.text(min_size=1, max_size=6))
def test_hits_are_within_the_text_sorted_and_disjoint(before: str, after: str, wanted: str) -> None:
    text = before + wanted + after
    found = hits(text, (Needle(wanted),))
    assert all(0 <= start < stop <= len(text) for start, stop in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=20), st.booleans())
def test_a_needle_that_is_written_as_a_call_is_read_back(text: str, is_pattern: bool) -> None:
    needle = Needle(text, is_pattern)
    if not is_pattern or problem_of(text) is None:
        assert parse_filter(written(needle), Names({}, {})).uses.needles == [needle]
