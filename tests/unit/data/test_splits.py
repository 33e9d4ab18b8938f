"""Where an implicit prompt ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.data.dialects.splits import split_text, split_turns
from prefscope.data.records import Message

WORDS = st.lists(
    st.sampled_from(["the", "sky", "skies", "is", "blue", "black", "bl", "\n", " ", "  ", "."]), max_size=9
)
TEXTS = st.one_of(WORDS.map(" ".join), WORDS.map("".join), st.text(max_size=20))


@pytest.mark.parametrize(
    ("chosen", "rejected", "parts"),
    [
        ("The sky is blue.", "The sky is black.", ("The sky is", " blue.", " black.")),
        ("The sky is blue.", "The sky is blue.", ("The sky is", " blue.", " blue.")),
        ("The sky", "The sky is blue.", ("The", " sky", " sky is blue.")),
        ("The sky is ", "The sky is blue.", ("The sky", " is ", " is blue.")),
        ("yes", "yes sir", ("", "yes", "yes sir")),
        ("cat", "dog", ("", "cat", "dog")),
        ("", "", ("", "", "")),
        ("", "dog", ("", "", "dog")),
        ("Q: 1?\nyes", "Q: 1?\nyet", ("Q: 1?\n", "yes", "yet")),
        ("Q: 1?\nA: yes", "Q: 1?\nA: no", ("Q: 1?\nA:", " yes", " no")),
        ("天空？蓝色", "天空？蓝天", ("天空？", "蓝色", "蓝天")),
    ],
)
def test_texts_are_split_at_a_turn_or_word(chosen: str, rejected: str, parts: tuple[str, str, str]) -> None:
    assert split_text(chosen, rejected) == parts


@given(TEXTS, TEXTS, TEXTS)
def test_prompt_and_response_join_back_to_the_text(shared: str, one: str, other: str) -> None:
    prompt, chosen, rejected = split_text(shared + one, shared + other)
    assert (prompt + chosen, prompt + rejected) == (shared + one, shared + other)


@given(TEXTS, TEXTS, TEXTS)
def test_no_prompt_ends_inside_a_word(shared: str, one: str, other: str) -> None:
    prompt, *responses = split_text(shared + one, shared + other)
    assert not any(prompt and prompt[-1].isalpha() and response[0].isalpha() for response in responses)


@given(TEXTS, TEXTS, TEXTS)
def test_a_text_with_words_keeps_some_for_its_response(shared: str, one: str, other: str) -> None:
    _, chosen, rejected = split_text(shared + one, shared + other)
    assert bool(chosen.strip()) == bool((shared + one).strip()) or not other.strip()
    assert not (chosen == "" and (shared + one).strip())
    assert not (rejected == "" and (shared + other).strip())


def turns(*contents: str) -> tuple[Message, ...]:
    return tuple(Message("assistant" if place % 2 else "user", content) for place, content in enumerate(contents))


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt_turns"),
    [
        (turns("q", "a"), turns("q", "b"), 1),
        (turns("q", "a"), turns("q", "a"), 1),
        (turns("q", "a", "r", "b"), turns("q", "a", "r", "c"), 3),
        (turns("q", "a", "r", "b"), turns("q", "x", "r", "b"), 1),
        (turns("q", "a"), turns("q", "a", "r", "b"), 1),
        (turns("q", "a"), turns("p", "a"), 0),
        ((), (), 0),
    ],
)
def test_conversations_are_split_before_the_first_turn_that_differs(
    chosen: tuple[Message, ...], rejected: tuple[Message, ...], prompt_turns: int
) -> None:
    assert split_turns(chosen, rejected) == (chosen[:prompt_turns], chosen[prompt_turns:], rejected[prompt_turns:])
