"""Every layout is recognised by its columns and read as the same pair."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.data.dialects import DIALECTS, normalise, recognise
from prefscope.data.records import Message, PreferencePair, SourceRow, Text
from prefscope.errors import UsageError
from tests.unit.data.examples import ASK, EXAMPLES, NO, SYSTEM, TOOL, USER, YES, Example, refilled, typed

EACH = pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES.keys())


def read(value: Mapping[str, Any], **options: Any) -> PreferencePair:
    return normalise(SourceRow(3, 7, value), **options)[0]


def texts(pair: PreferencePair) -> tuple[Text, Text, Text]:
    return pair.prompt, pair.chosen, pair.rejected


@EACH
def test_a_layout_is_recognised_and_read(example: Example) -> None:
    pair, dialect = normalise(SourceRow(3, 7, example.row))
    assert dialect == example.dialect
    assert texts(pair) == (example.prompt, example.chosen, example.rejected)


def test_every_dialect_has_an_example() -> None:
    assert {example.dialect for example in EXAMPLES.values()} == set(DIALECTS)


@EACH
def test_naming_the_dialect_reads_the_same_pair(example: Example) -> None:
    assert read(example.row, dialect=example.dialect) == read(example.row)


@EACH
def test_writing_an_unchanged_pair_into_its_row_changes_nothing(example: Example) -> None:
    assert recognise(example.row).write(read(example.row), example.row) == example.row


@EACH
def test_a_pair_keeps_its_place_its_row_and_unused_columns(example: Example) -> None:
    row = {**example.row, "id": 5, "note": {"by": ["me", None]}}
    pair = read(row)
    assert (pair.row, pair.line, pair.source) == (3, 7, row)
    assert pair.columns == {"id": 5, "note": {"by": ["me", None]}}


# A transcript's turns are told by words that a turn itself must then not hold.
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="{[2+?45HA"), min_size=1, max_size=12).map("w".__add__)
FILLED = st.builds(
    lambda example, ask, one, other: refilled(example.row, {"2+2?": ask, "4": one, "5": other}),
    st.sampled_from([example for name, example in EXAMPLES.items() if name != "trl with openai content parts"]),
    *[WORDS] * 3,
)


@given(FILLED)
def test_a_written_pair_reads_back_unchanged(row: dict[str, Any]) -> None:
    pair = read(row)
    assert read(recognise(row).write(pair, row)).pair_id == pair.pair_id


@given(FILLED)
def test_a_swapped_row_reads_back_as_the_swapped_pair(row: dict[str, Any]) -> None:
    pair, swapped = read(row), read(recognise(row).swap(row))
    assert texts(swapped) == (pair.prompt, pair.rejected, pair.chosen)


@given(FILLED)
def test_swapping_twice_restores_the_row(row: dict[str, Any]) -> None:
    dialect = recognise(row)
    assert dialect.swap(dialect.swap(row)) == row


def edited(text: Text) -> Text:
    if isinstance(text, str):
        return f"{text} and more"
    return (*text[:-1], Message(text[-1].role, f"{text[-1].content} and more", text[-1].extra))


@EACH
def test_an_edited_pair_is_written_in_its_layout(example: Example) -> None:
    pair = read(example.row)
    prompt = edited(pair.prompt) if example.prompt != "The sky is" else pair.prompt
    new = PreferencePair(0, 1, prompt, edited(pair.chosen), edited(pair.rejected))
    row = recognise(example.row).write(new, example.row)
    assert (row.keys(), recognise(row).name) == (example.row.keys(), example.dialect)
    assert read(row).pair_id == new.pair_id


def test_an_edited_message_keeps_the_keys_and_parts_of_its_layout() -> None:
    row = EXAMPLES["llamafactory v1"].row
    pair = read(row)
    new = PreferencePair(0, 1, pair.prompt, edited(pair.chosen), pair.rejected)
    written = recognise(row).write(new, row)
    assert written["chosen_messages"] == [typed("user", "2+2?"), typed("assistant", "4 and more")]
    assert written["rejected_messages"] is row["rejected_messages"]


def test_columns_that_describe_the_texts_are_swapped_with_them() -> None:
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 9, "score_rejected": 1, "chosen_by": "me"}
    swapped = {"prompt": "q", "chosen": "b", "rejected": "a", "score_chosen": 1, "score_rejected": 9, "chosen_by": "me"}
    assert DIALECTS["trl"].swap(row) == swapped


@pytest.mark.parametrize("spelled", [[TOOL], json.dumps([TOOL])], ids=["list", "json"])
def test_tools_and_template_variables_of_a_row_are_read(spelled: Any) -> None:
    row = {**EXAMPLES["trl messages"].row, "tools": spelled, "chat_template_kwargs": '{"thinking": false}'}
    pair = read(row)
    assert (pair.tools, pair.chat_template_kwargs, pair.columns) == ([TOOL], {"thinking": False}, {})


def test_openai_tools_are_read_from_the_input() -> None:
    row = {"input": {"messages": [ASK], "tools": [TOOL]}, "preferred_output": [YES], "non_preferred_output": [NO]}
    assert read(row).tools == [TOOL]


def test_changed_tools_are_written_in_the_spelling_of_the_row() -> None:
    row = {**EXAMPLES["trl messages"].row, "tools": json.dumps([TOOL])}
    pair = read(row)
    new = PreferencePair(0, 1, pair.prompt, pair.chosen, pair.rejected, tools=[TOOL, TOOL])
    assert DIALECTS["trl"].write(new, row) == {**row, "tools": json.dumps([TOOL, TOOL])}


@pytest.mark.parametrize("empty", [None, [], ""])
def test_an_empty_tools_column_means_no_tools(empty: Any) -> None:
    assert read({**EXAMPLES["trl texts"].row, "tools": empty}).tools is None


def test_extra_message_keys_are_kept_with_their_nulls() -> None:
    calls = [{"function": {"name": "add"}}]
    asked = {"role": "assistant", "content": None, "tool_calls": calls, "name": None}
    pair = read({"prompt": [ASK, asked], "chosen": [YES], "rejected": [NO]})
    assert pair.prompt[1] == Message("assistant", None, {"tool_calls": calls, "name": None})
    assert pair.prompt[1].to_json() == asked


def test_an_empty_response_is_valid() -> None:
    assert read({"prompt": "q", "chosen": "a", "rejected": ""}).rejected == ""


def test_json_text_that_is_not_messages_stays_text() -> None:
    assert read({"prompt": "q", "chosen": '[{"name": "add"}]', "rejected": "b"}).chosen == '[{"name": "add"}]'


def test_a_prompt_repeated_in_chosen_and_rejected_text_is_left_there() -> None:
    assert texts(read({"prompt": "q", "chosen": "q a", "rejected": "q b"})) == ("q", "q a", "q b")


def test_a_system_column_equal_to_the_first_turn_is_not_repeated() -> None:
    assert read({**EXAMPLES["trl messages"].row, "system": "Be brief."}).prompt == (SYSTEM, USER)


def test_an_unknown_dialect_is_refused_with_a_list_of_dialects() -> None:
    with pytest.raises(UsageError, match="There is no dialect 'trl2'") as told:
        read(EXAMPLES["trl texts"].row, dialect="trl2")
    assert told.value.hint == f"Choose from: auto, {', '.join(DIALECTS)}."
