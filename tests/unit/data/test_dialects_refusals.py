"""What is no pair is refused by what it is, with the columns found."""

from __future__ import annotations

from typing import Any

import pytest

from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import SourceRow

ASK, YES, NO = (
    {"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "a"), ("assistant", "b"))
)
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
UNPAIRED = "unpaired feedback (one answer with a label), not a preference pair"
SEVERAL = "a list of several answers, not one chosen and one rejected"
MAP = "name them with --map prompt=col,chosen=col,rejected=col"


def two_answers(one: str, other: str, label: str, where: str = "") -> str:
    return (
        f"two answers ({where or f'`{one}`, `{other}`'}) and a label (`{label}`) that says in each row which is better; "
        f"convert the rows by their label and leave ties out: "
        f"chosen, rejected = ({one}, {other}) if {label} == … else ({other}, {one})"
    )


def reason(value: dict[str, Any], **options: Any) -> str:
    with pytest.raises(NotAPairError) as told:
        normalise(SourceRow(0, 1, value), **options)
    return told.value.reason


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (
            {"prompt": "q", "completion": "a", "label": True},
            f"{UNPAIRED}; columns found: prompt, completion, label",
        ),
        (
            {"messages": [ASK, YES], "label": False},
            f"{UNPAIRED}; columns found: messages, label",
        ),
        (
            {"context": [ASK], "completions": [{"rank": 0, "completion": [YES]}]},
            f"{SEVERAL}; columns found: context, completions",
        ),
        (
            {"prompt": "q", "answers": [{"answer": "a", "rank": 1}]},
            f"{SEVERAL}; columns found: prompt, answers",
        ),
        (
            {"prompt": "q", "responses": ["a", "b"]},
            f"{SEVERAL}; columns found: prompt, responses",
        ),
        (
            {"input": "q", "output_1": "a", "output_2": "b", "preference": 1},
            f"{two_answers('output_1', 'output_2', 'preference')}; columns found: input, output_1, output_2, preference",
        ),
        (
            {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0},
            f"{two_answers('response_0', 'response_1', 'better_response_id')}; "
            "columns found: prompt, response_0, response_1, better_response_id",
        ),
        ({"prompt": "q", "rejected": "b"}, "`chosen` is missing; columns found: prompt, rejected"),
        ({"a": 1, "b": 2}, f"no known preference layout; columns found: a, b; {MAP}"),
        ({}, f"no known preference layout; columns found: none; {MAP}"),
    ],
)
def test_other_layouts_are_refused_by_name(value: dict[str, Any], what: str) -> None:
    assert reason(value) == what


@pytest.mark.parametrize(
    ("column", "found", "what"),
    [
        ("chosen", True, "`chosen` is the boolean true where text or a list of messages should be"),
        ("rejected", 3, "`rejected` is a number where text or a list of messages should be"),
        ("prompt", None, "`prompt` is null where text or a list of messages should be"),
        ("chosen", [], "`chosen` is an empty list"),
        ("chosen", ["a", "b"], "`chosen` holds 2 texts; only one chosen and one rejected can be read"),
        ("chosen", [1], "`chosen` holds a number where a message should be"),
        ("chosen", {"text": "a"}, "`chosen` holds a message without `role`; its keys: `text`"),
        (
            "chosen",
            [{"role": "assistant", "content": 1}],
            "`chosen` holds a message whose content is a number where text should be",
        ),
        (
            "chosen",
            "[{'role': 'assistant', 'content': 'a'}]",
            "`chosen` holds messages as Python writes them; write them as JSON",
        ),
        ("system", 1, "`system` is a number where text should be"),
        ("tools", "hammer", "`tools` is text that is not JSON"),
        ("tools", {"a": 1}, "`tools` is an object where a list of tools should be"),
        ("chat_template_kwargs", [1], "`chat_template_kwargs` is a list where an object should be"),
        ("images", ["a.png"], "images are not supported: `images` is not empty"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_with_its_column(column: str, found: Any, what: str) -> None:
    assert reason({**PAIR, column: found}) == what


@pytest.mark.parametrize("empty", [None, [], ""])
def test_an_empty_image_column_is_no_image(empty: Any) -> None:
    assert normalise(SourceRow(0, 1, {**PAIR, "images": empty}))[0].columns == {"images": empty}


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (
            {"type": "image_url", "image_url": {"url": "x"}},
            "images are not supported: `prompt` holds a content part of type `image_url`",
        ),
        ({"type": "audio", "value": "x"}, "only text is supported: `prompt` holds a content part of type `audio`"),
    ],
)
def test_content_parts_other_than_text_are_refused(part: dict[str, Any], what: str) -> None:
    assert reason({**PAIR, "prompt": [{"role": "user", "content": [part]}]}) == what


def test_two_columns_that_could_be_the_prompt_are_not_guessed_between() -> None:
    row = {"question": "q", "context": "c", "chosen": "a", "rejected": "b"}
    what = "each of `question`, `context` could be the prompt; name them with --map prompt=col,chosen=col,rejected=col"
    assert reason(row) == what


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": "cat", "rejected": "dog"},
        {"chosen": "", "rejected": ""},
        {"chosen": [YES], "rejected": [NO]},
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: p\n\nAssistant: a"},
    ],
    ids=["texts", "empty texts", "messages", "transcripts"],
)
def test_chosen_and_rejected_that_share_no_beginning_have_no_prompt(row: dict[str, Any]) -> None:
    assert "so there is no prompt; columns found: chosen, rejected" in reason(row)


def test_a_text_beside_a_message_list_is_refused() -> None:
    assert reason({"chosen": "a", "rejected": [NO]}) == "`chosen` is text and `rejected` is a list; they must be alike"


def test_a_prompt_that_is_not_in_the_conversations_is_refused() -> None:
    what = reason({"prompt": "other", "chosen": [ASK, YES], "rejected": [ASK, NO]})
    hint = "leave it out with --map chosen=chosen,rejected=rejected"
    assert what == f"`prompt` is not what `chosen` and `rejected` begin with; {hint}"


def test_two_different_system_prompts_are_refused() -> None:
    lead = {"role": "system", "content": "Be brief."}
    row = {"system": "Be kind.", "prompt": [lead, ASK], "chosen": [YES], "rejected": [NO]}
    assert reason(row) == "`system` and the first turn are two different system prompts"


def test_a_conversation_that_ends_with_a_request_has_no_chosen_response() -> None:
    what = "`messages` is not a request that ends with a response of the assistant"
    assert reason({"messages": [ASK], "rejected_response": "b"}) == what


def test_a_dialect_named_for_a_row_without_its_columns_says_which_is_missing() -> None:
    what = reason({"chosen": "a", "rejected": "b"}, dialect="trl")
    assert what == "`prompt` is missing; columns found: chosen, rejected"
