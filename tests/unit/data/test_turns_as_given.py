"""A turn reaches the chat template unchanged, and all its content is displayed and checked."""

from __future__ import annotations

from typing import Any

import pytest

from prefscope.data.checks import lint_pairs
from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import Message, PreferencePair, SourceRow, Text, readable, text_to_json
from tests.unit.data.checked import rows_of

ASK = {"role": "user", "content": "Weather in Oslo?"}


def call(city: str, **keys: Any) -> dict[str, Any]:
    function = {"name": "get_weather", "arguments": {"city": city}}
    return {"role": "assistant", **keys, "tool_calls": [{"type": "function", "function": function}]}


def read(chosen: dict[str, Any], rejected: dict[str, Any], row: int = 0) -> PreferencePair:
    value = {"prompt": [ASK], "chosen": [chosen], "rejected": [rejected]}
    return normalise(SourceRow(row, row + 1, value))[0]


@pytest.mark.parametrize(
    "turn",
    [
        call("Oslo", content=None),
        call("Oslo"),
        call("Oslo", content=""),
        {"role": "assistant", "content": None, "reasoning_content": "Hm."},
        {"role": "assistant", "content": "No.", "tool_calls": None, "name": None},
        call("Oslo", content=None) | {"tool_calls": [{"function": {"name": "f", "arguments": {"limit": None}}}]},
    ],
    ids=["null", "absent", "empty", "reasoning", "null keys", "null argument"],
)
def test_a_turn_reaches_the_template_with_its_nulls_and_without_missing_keys(turn: dict[str, Any]) -> None:
    assert text_to_json(read(turn, {"role": "assistant", "content": "I do not know."}).chosen) == [turn]


@pytest.mark.parametrize("turn", [{"role": "assistant", "content": None}, {"role": "assistant", "tool_calls": []}])
def test_a_turn_without_any_content_is_refused(turn: dict[str, Any]) -> None:
    with pytest.raises(NotAPairError, match="content is null"):
        read(turn, turn)


def test_null_keys_of_a_turn_do_not_change_the_pairs_id() -> None:
    plain = {"role": "assistant", "content": "No."}
    assert read(plain, plain).pair_id == read(plain | {"tool_calls": None}, plain).pair_id == "c3c4ccd65a9622d5"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ((Message("assistant", "Hi"),), "Hi"),
        ((Message("assistant", "Hi", {"name": "bot"}),), "Hi"),
        (
            (Message("assistant", "Wait.", {"tool_calls": [{"function": {"name": "f", "arguments": '{"a": 1}'}}]}),),
            'Wait.\n\n[tool call] f {"a": 1}',
        ),
        (
            (Message("assistant", None, {"tool_calls": [{"name": "f", "arguments": {"a": None}}]}),),
            '[tool call] f {"a": null}',
        ),
        ((Message("assistant", "22", {"reasoning_content": "17 + 5"}),), "[reasoning]\n17 + 5\n\n22"),
        (
            (Message("user", "Hi"), Message("assistant", None, {"function_call": "f()"})),
            "[user]\nHi\n\n[assistant]\n[tool call] f()",
        ),
    ],
)
def test_reasoning_content_and_tool_calls_are_displayed(text: Text, shown: str) -> None:
    assert readable(text) == shown


def test_responses_that_differ_only_in_tool_calls_or_reasoning_are_not_identical() -> None:
    thought = [{"role": "assistant", "content": "22", "reasoning_content": text} for text in ("17 + 5", "A guess.")]
    pairs = [read(call("Oslo", content=None), call("Rome", content=None)), read(thought[0], thought[1], row=1)]
    assert rows_of(lint_pairs(pairs)).keys().isdisjoint({"identical_responses", "empty_responses", "duplicate_pairs"})


def test_responses_with_equal_tool_calls_are_identical_and_repeated_pairs_are_duplicates() -> None:
    pairs = [read(call("Oslo"), call("Oslo", content=None), row) for row in range(2)]
    found = rows_of(lint_pairs(pairs))
    assert (found["identical_responses"], found["duplicate_pairs"]) == ([0, 1], [1])


def test_pairs_of_one_prompt_with_different_tool_calls_are_not_duplicates() -> None:
    cities = ["Oslo", "Rome", "Lima"]
    pairs = [read(call(city, content=None), call("Bern", content=None), row) for row, city in enumerate(cities)]
    assert "duplicate_pairs" not in rows_of(lint_pairs(pairs))


def test_exchanged_tool_calls_contradict_each_other() -> None:
    pairs = [read(call("Oslo"), call("Rome")), read(call("Rome"), call("Oslo"), row=1)]
    assert rows_of(lint_pairs(pairs))["contradictions"] == [0, 1]


def test_ids_and_scores_do_not_prevent_turns_from_being_the_prompt() -> None:
    chosen, rejected = (
        [ASK | {"id": f"u-{side}"}, {"role": "assistant", "content": side, "id": side, "score": 1}] for side in "ab"
    )
    pair, dialect = normalise(SourceRow(0, 1, {"chosen": chosen, "rejected": rejected}))
    assert dialect == "trl_implicit"
    assert pair.prompt == (Message("user", ASK["content"], {"id": "u-a"}),)


def test_a_key_that_templates_may_read_is_named_if_it_makes_turns_differ() -> None:
    chosen, rejected = ([ASK | {"name": side}, {"role": "assistant", "content": side}] for side in "ab")
    with pytest.raises(NotAPairError, match="the first turns differ in `name`"):
        normalise(SourceRow(0, 1, {"chosen": chosen, "rejected": rejected}))
