"""Sentences are found in many languages, in lists and in code; no token is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.preference.sentences import sentence_bounds, text_end

PIECES = st.sampled_from([".", "!", "…", "。", " ", "\n", "```", "a", "B", "1", "e.g", ")", "”", "", "\\xe2", "天"])


def split(text: str) -> list[str]:
    return [text[start:stop] for start, stop in sentence_bounds(list(text))]


@pytest.mark.parametrize(
    "sentences",
    [
        ["Yes!", " No?", ' "Go."', " (Well…)", " Then 1.5 of it."],
        ["你好。", "今天！", "「是吗？」", "好"],
        ["क्या है।", " हाँ।"],
        ["هل؟", " نعم."],
        ["Dr. A. Smith left, e.g. today.", " He said so."],
        ["well... ok.", " Then"],
        ["1. First\n", "2. Second. ", "More\n\n", "- a\n", "* b"],
        ["Run:\n", "```python\n", "x = 1. \n", "y? z\n", "```\n", "Done.", " Ok."],
        ["One.\n\n", "Two"],
        [" "],
    ],
    ids=["english", "chinese", "hindi", "arabic", "abbreviations", "dots", "lists", "code", "paragraphs", "blank"],
)
def test_a_text_is_split_into_sentences(sentences: list[str]) -> None:
    assert [one.strip() for one in split("".join(sentences))] == [one.strip() for one in sentences]


def test_a_token_belongs_to_the_sentence_of_its_first_visible_character() -> None:
    tokens = ["Yes", ".", " See", ".\n", "\n", "Go", ". Then", " more"]
    assert sentence_bounds(tokens) == [(0, 2), (2, 5), (5, 7), (7, 8)]


def test_no_tokens_are_no_sentences() -> None:
    assert sentence_bounds([]) == []


@given(st.lists(PIECES, max_size=30))
def test_sentences_cover_all_tokens_in_order(tokens: list[str]) -> None:
    bounds = sentence_bounds(tokens)
    assert [at for start, stop in bounds for at in range(start, stop)] == list(range(len(tokens)))
    assert all(start < stop for start, stop in bounds)


@pytest.mark.parametrize("text", ["." * 200_000, "\n" * 200_000, ".]" * 100_000, "`" * 200_000])
def test_a_long_run_of_stops_is_split_in_linear_time(text: str) -> None:
    assert sentence_bounds([text]) == [(0, 1)]


@pytest.mark.parametrize(
    ("tokens", "text", "end"),
    [
        (["Hi", " there", ".", "</s>"], "Hi there.", 3),
        ([" Hi", ".", "<|im_end|>", "\n"], "Hi.", 2),
        (["\\xe2", "\\x82\\xac", "</s>"], "€", 2),
        (["\\", "x", "e2", "</s>"], r"\xe2", 3),
        (["Hi", " th"], "Hi there.", 2),
        (["hi", "</s>"], "Hi", 2),
        (["</s>"], "", 0),
    ],
    ids=["plain", "template", "bytes", "escape as text", "truncated", "another text", "empty"],
)
def test_the_tokens_after_the_text_are_found(tokens: list[str], text: str, end: int) -> None:
    assert text_end(tokens, text) == end
