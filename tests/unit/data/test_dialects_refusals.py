"""Rows that are not pairs are refused by kind, with the columns found."""

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
        f"two answers ({where or f'`{one}`, `{other}`'}) and a label (`{label}`) that says in each row which is "
        "better; convert the rows by their label and leave ties out: "
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
            two_answers("output_1", "output_2", "preference")
            + "; columns found: input, output_1, output_2, preference",
        ),
        (
            {"prompt": "q", "response_0": "a", "response_1": "b", "better_response_id": 0},
            two_answers("response_0", "response_1", "better_response_id")
            + "; columns found: prompt, response_0, response_1, better_response_id",
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
        ("chosen", True, "`chosen` is the boolean true, not text or a list of messages"),
        ("rejected", 3, "`rejected` is a number, not text or a list of messages"),
        ("prompt", None, "`prompt` is null, not text or a list of messages"),
        ("chosen", [], "`chosen` is an empty list"),
        ("chosen", ["a", "b"], "`chosen` contains 2 texts; only one chosen and one rejected can be read"),
        ("chosen", [1], "`chosen` contains a number instead of a message"),
        ("chosen", {"text": "a"}, "`chosen` contains a message without `role`; its keys: `text`"),
        (
            "chosen",
            [{"role": "assistant", "content": 1}],
            "`chosen` contains a message whose content is a number, not text",
        ),
        (
            "chosen",
            "[{'role': 'assistant', 'content': 'a'}]",
            "`chosen` contains messages as printed by Python; write them as JSON",
        ),
        ("system", 1, "`system` is a number, not text"),
        ("tools", "hammer", "`tools` is text that is not JSON"),
        ("tools", {"a": 1}, "`tools` is an object, not a list of tools"),
        ("chat_template_kwargs", [1], "`chat_template_kwargs` is a list, not an object"),
        ("images", ["a.png"], "images are not supported: `images` is not empty"),
    ],
)
def test_a_value_of_the_wrong_type_is_reported_with_its_column(column: str, found: Any, what: str) -> None:
    assert reason({**PAIR, column: found}) == what


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            {
                "model_a": "m",
                "model_b": "n",
                "winner": "model_a",
                "conversation_a": [ASK, YES],
                "conversation_b": [ASK],
            },
            two_answers("conversation_a", "conversation_b", "winner"),
        ),
        (
            {"history": "q", "human_ref_A": "a", "human_ref_B": "b", "labels": 1, "score_A": 5, "score_B": 2},
            two_answers("human_ref_A", "human_ref_B", "labels"),
        ),
        (
            {"prompt": "q", "response_1": "a", "response_2": "b", "preference_strength": -2},
            two_answers("response_1", "response_2", "preference_strength"),
        ),
        (
            {"question": {"full_text": "q"}, "answer_0": "a", "answer_1": "b", "score_0": 0.5, "score_1": -0.5},
            "two answers (`answer_0`, `answer_1`) and a label (`score_0`, `score_1`)",
        ),
        (
            {"info": {"post": "q"}, "summaries": [{"text": "a"}, {"text": "b"}], "choice": 0},
            two_answers("summaries[0]", "summaries[1]", "choice", "in `summaries`"),
        ),
        (
            {"prompt": "q", "responseA": "a", "responseB": "b", "vote": "A"},
            two_answers("responseA", "responseB", "vote"),
        ),
        (
            {"prompt": "q", "left answer": "a", "right answer": "b"},
            "two answers (`left answer`, `right answer`) without a known column that says which is better",
        ),
    ],
)
def test_two_answers_and_a_label_are_refused_without_suggesting_a_mapping(value: dict[str, Any], told: str) -> None:
    assert reason(value).startswith(told)
    assert f"columns found: {', '.join(value)}" in reason(value)
    assert "--map" not in reason(value)


def test_similarly_named_columns_are_suggested() -> None:
    hint = "name them with --map prompt=text_prompt,chosen=text_chosen,rejected=text_rejected"
    assert reason({"text_prompt": "q", "text_chosen": "a", "text_rejected": "b"}).endswith(hint)


@pytest.mark.parametrize(
    ("extra", "remark"),
    [
        ({"system_prompt": "Be brief."}, "`system_prompt` is not used (TRL does not use it either)"),
        ({"sys_message": "Be brief."}, "`sys_message` is not used (TRL does not use it either)"),
        ({"history": [["q", "a"]]}, "`history` is not used"),
        ({"context": "Long ago."}, "`context` is not part of the prompt"),
        ({"prompt": "", "question": "q"}, "`question` is not used, though the prompt is empty"),
    ],
)
def test_unused_columns_that_may_belong_to_the_prompt_are_noted(extra: dict[str, Any], remark: str) -> None:
    (told,) = normalise(SourceRow(0, 1, {**PAIR, **extra}))[0].remarks
    assert told.startswith(remark)


@pytest.mark.parametrize("extra", [{"system_prompt": ""}, {"context": "q"}, {"system": "Be brief."}, {"note": "x"}])
def test_columns_that_are_used_or_empty_are_not_noted(extra: dict[str, Any]) -> None:
    assert normalise(SourceRow(0, 1, {**PAIR, **extra}))[0].remarks == ()


def test_a_label_beside_mapped_columns_is_noted() -> None:
    row = {"prompt": "q", "answer_0": "a", "answer_1": "b", "label": 1}
    mapping = {"prompt": "prompt", "chosen": "answer_0", "rejected": "answer_1"}
    told = ("`label` is not used, but may say which answer is better in each row",)
    assert normalise(SourceRow(0, 1, row), mapping=mapping)[0].remarks == told


@pytest.mark.parametrize(
    "cell",
    [
        "{'role': 'assistant', 'content': 'a'}",
        "{'from': 'gpt', 'value': 'a'}",
        '{"from": \'gpt\', "value": "It\'s"}',
        "[{'tool_calls': [{'id': 1}], 'role': 'assistant', 'content': None}]",
        "[{'content': 'a', 'role': 'user'}\n {'content': 'b', 'role': 'assistant'}]",
        "array([{'content': 'a', 'role': 'assistant'}], dtype=object)",
        "ChatCompletionMessage(content='a', role='assistant')",
        "[HumanMessage(content='a'), AIMessage(content='b')]",
        "[{'role': 'assistant', 'content': 'cut o",
        '[{"role": "assistant", "content": "cut o',
    ],
)
@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_messages_not_spelled_as_json_are_not_scored_as_text(cell: str, column: str) -> None:
    assert reason({**PAIR, column: cell}).startswith(f"`{column}` ")


@pytest.mark.parametrize(
    "cell",
    ['{"role": "assistant", "content": "Hi"}', ' {"value": "Hi", "from": "gpt"}', '[{"from": "gpt", "value": "Hi"}]'],
)
def test_one_message_as_json_in_a_cell_is_that_message(cell: str) -> None:
    pair = normalise(SourceRow(0, 1, {**PAIR, "chosen": cell}))[0]
    assert pair.content["chosen"] == [{"role": "assistant", "content": "Hi"}]


@pytest.mark.parametrize(
    "text",
    [
        '{"role": "Engineer", "content": "Write code."}',
        '{"answer": "a"}',
        "{'a': 1}",
        '["a", "b"]',
        "[1, 2]",
        "{not json",
        "Message(s) follow",
        "{'role': 'user', 'content': 'Hi'} is how a message looks.",
    ],
)
def test_text_that_only_looks_like_code_stays_text(text: str) -> None:
    assert normalise(SourceRow(0, 1, {**PAIR, "chosen": text}))[0].chosen == text


def test_responses_that_are_python_bytes_literals_are_refused() -> None:
    assert reason({"prompt": "q", "chosen": "b'a'", "rejected": "b'b'"}) == (
        "`chosen` and `rejected` are bytes as printed by Python; decode them"
    )


@pytest.mark.parametrize("empty", [None, [], ""])
def test_an_empty_image_column_is_no_image(empty: Any) -> None:
    assert normalise(SourceRow(0, 1, {**PAIR, "images": empty}))[0].columns == {"images": empty}


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (
            {"type": "image_url", "image_url": {"url": "x"}},
            "images are not supported: `prompt` contains a content part of type `image_url`",
        ),
        ({"type": "audio", "value": "x"}, "only text is supported: `prompt` contains a content part of type `audio`"),
    ],
)
def test_content_parts_other_than_text_are_refused(part: dict[str, Any], what: str) -> None:
    assert reason({**PAIR, "prompt": [{"role": "user", "content": [part]}]}) == what


def test_two_candidate_prompt_columns_are_refused_without_guessing() -> None:
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
def test_responses_without_a_common_beginning_have_no_prompt(row: dict[str, Any]) -> None:
    assert "so there is no prompt; columns found: chosen, rejected" in reason(row)


def test_a_text_beside_a_message_list_is_refused() -> None:
    assert (
        reason({"chosen": "a", "rejected": [NO]})
        == "`chosen` is text and `rejected` is a list; they must be of the same kind"
    )


def test_a_prompt_that_is_not_in_the_conversations_is_refused() -> None:
    what = reason({"prompt": "other", "chosen": [ASK, YES], "rejected": [ASK, NO]})
    hint = "leave it out with --map chosen=chosen,rejected=rejected"
    assert what == f"`prompt` is not what `chosen` and `rejected` begin with; {hint}"


def test_two_different_system_prompts_are_refused() -> None:
    lead = {"role": "system", "content": "Be brief."}
    row = {"system": "Be kind.", "prompt": [lead, ASK], "chosen": [YES], "rejected": [NO]}
    assert reason(row) == "`system` and the first turn are two different system prompts"


def test_a_conversation_that_ends_with_a_request_has_no_chosen_response() -> None:
    what = "`messages` is not a request followed by an assistant response"
    assert reason({"messages": [ASK], "rejected_response": "b"}) == what


def test_a_named_dialect_reports_the_column_that_a_row_is_missing() -> None:
    what = reason({"chosen": "a", "rejected": "b"}, dialect="trl")
    assert what == "`prompt` is missing; columns found: chosen, rejected"
