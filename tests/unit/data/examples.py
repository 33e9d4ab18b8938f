"""A row in every layout, with the pair in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from prefscope.data.records import Message, Text

SYSTEM, USER = Message("system", "Be brief."), Message("user", "2+2?")
FOUR, FIVE = (Message("assistant", "4"),), (Message("assistant", "5"),)
TOOL = {"type": "function", "function": {"name": "add"}}


def turn(role: str, content: object) -> dict[str, Any]:
    return {"role": role, "content": content}


def said(speaker: str, value: str) -> dict[str, Any]:
    return {"from": speaker, "value": value}


def typed(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "value": content}]}


ASK, YES, NO = turn("user", "2+2?"), turn("assistant", "4"), turn("assistant", "5")
LEAD = turn("system", "Be brief.")


class Example(NamedTuple):
    """A row, its dialect, and the pair in it."""

    dialect: str
    row: dict[str, Any]
    prompt: Text
    chosen: Text = FOUR
    rejected: Text = FIVE


PLAIN = ("2+2?", "4", "5")
EXAMPLES = {
    "trl texts": Example("trl", {"prompt": "2+2?", "chosen": "4", "rejected": "5"}, *PLAIN),
    "trl messages": Example("trl", {"prompt": [LEAD, ASK], "chosen": [YES], "rejected": [NO]}, (SYSTEM, USER)),
    "trl messages and texts": Example("trl", {"prompt": [ASK], "chosen": "4", "rejected": "5"}, (USER,)),
    "trl text and messages": Example("trl", {"prompt": "2+2?", "chosen": [YES], "rejected": [NO]}, (USER,)),
    "trl with a system column": Example(
        "trl", {"system": "Be brief.", "prompt": "2+2?", "chosen": "4", "rejected": "5"}, (SYSTEM, USER)
    ),
    "trl as json in cells": Example(
        "trl", {"prompt": json.dumps([ASK]), "chosen": json.dumps([YES]), "rejected": json.dumps([NO])}, (USER,)
    ),
    "trl with openai content parts": Example(
        "trl",
        {
            "prompt": [turn("user", [{"type": "text", "text": "2+"}, {"type": "text", "text": "2?"}])],
            "chosen": [YES],
            "rejected": [NO],
        },
        (USER,),
    ),
    "implicit messages": Example(
        "trl_implicit", {"chosen": [LEAD, ASK, YES], "rejected": [LEAD, ASK, NO]}, (SYSTEM, USER)
    ),
    "implicit texts": Example(
        "trl_implicit",
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        "The sky is",
        " blue.",
        " black.",
    ),
    "hh": Example(
        "hh",
        {"chosen": "\n\nHuman: 2+2?\n\nAssistant: 4", "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5"},
        (USER,),
    ),
    "hh that differs before its last turn": Example(
        "hh",
        {
            "chosen": "\n\nHuman: 2+2?\n\nAssistant: 4\n\nHuman: Sure?\n\nAssistant: Yes\n\nand yes.",
            "rejected": "\n\nHuman: 2+2?\n\nAssistant: 5",
        },
        (USER,),
        (*FOUR, Message("user", "Sure?"), Message("assistant", "Yes\n\nand yes.")),
    ),
    "ultrafeedback": Example("ultrafeedback", {"prompt": "2+2?", "chosen": [ASK, YES], "rejected": [ASK, NO]}, (USER,)),
    "ultrafeedback with a system turn": Example(
        "ultrafeedback", {"prompt": "2+2?", "chosen": [LEAD, ASK, YES], "rejected": [LEAD, ASK, NO]}, (SYSTEM, USER)
    ),
    "ultrafeedback with its prompt as messages": Example(
        "ultrafeedback", {"prompt": [ASK], "chosen": [ASK, YES], "rejected": [ASK, NO]}, (USER,)
    ),
    "alpaca": Example("alpaca", {"instruction": "2+2?", "input": "", "chosen": "4", "rejected": "5"}, (USER,)),
    "alpaca in full": Example(
        "alpaca",
        {
            "instruction": "Add",
            "input": "2 and 2",
            "system": "Be brief.",
            "history": [["Hi", "Hello"]],
            "chosen": "4",
            "rejected": "5",
        },
        (SYSTEM, Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Add\n2 and 2")),
    ),
    "sharegpt": Example(
        "sharegpt",
        {"conversations": [said("human", "2+2?")], "chosen": said("gpt", "4"), "rejected": said("gpt", "5")},
        (USER,),
    ),
    "sharegpt with tools": Example(
        "sharegpt",
        {
            "conversations": [said("human", "2+2?"), said("function_call", "add(2, 2)"), said("observation", "4")],
            "system": "Be brief.",
            "chosen": said("gpt", "4"),
            "rejected": said("gpt", "5"),
        },
        (SYSTEM, USER, Message("assistant", "add(2, 2)"), Message("tool", "4")),
    ),
    "llamafactory v1": Example(
        "llamafactory_v1",
        {
            "chosen_messages": [typed("user", "2+2?"), typed("assistant", "4")],
            "rejected_messages": [typed("user", "2+2?"), typed("assistant", "5")],
        },
        (USER,),
    ),
    "openai": Example(
        "openai",
        {"input": {"messages": [ASK], "seed": 1}, "preferred_output": [YES], "non_preferred_output": [NO]},
        (USER,),
    ),
    "nemo": Example("argilla", {"prompt": "2+2?", "chosen_response": "4", "rejected_response": "5"}, *PLAIN),
    "argilla with a system column": Example(
        "argilla",
        {"system": "", "instruction": "2+2?", "chosen_response": "4", "rejected_response": "5"},
        (USER,),
    ),
    "question": Example("question", {"question": "2+2?", "chosen": "4", "rejected": "5"}, *PLAIN),
    "input": Example("question", {"input": "2+2?", "chosen": "4", "rejected": "5"}, *PLAIN),
    "response_j": Example("response_jk", {"question": "2+2?", "response_j": "4", "response_k": "5"}, *PLAIN),
    "answer_w": Example("answer_wl", {"context": "2+2?", "answer_w": "4", "answer_l": "5"}, *PLAIN),
    "axolotl chat": Example("axolotl_chat", {"messages": [ASK], "chosen": YES, "rejected": NO}, (USER,)),
    "ms-swift query": Example("ms_swift_query", {"query": "2+2?", "response": "4", "rejected_response": "5"}, (USER,)),
    "ms-swift query in full": Example(
        "ms_swift_query",
        {
            "system": "Be brief.",
            "query": "2+2?",
            "response": "4",
            "rejected_response": "5",
            "history": [["Hi", "Hello"]],
        },
        (SYSTEM, Message("user", "Hi"), Message("assistant", "Hello"), USER),
    ),
    "ms-swift text": Example("ms_swift", {"messages": [LEAD, ASK, YES], "rejected_response": "5"}, (SYSTEM, USER)),
    "ms-swift list": Example("ms_swift", {"messages": [ASK, YES], "rejected_response": ["5"]}, (USER,)),
    "ms-swift turns": Example("ms_swift", {"messages": [ASK, YES], "rejected_response": [NO]}, (USER,)),
    "ms-swift messages": Example(
        "ms_swift_messages", {"messages": [ASK, YES], "rejected_messages": [ASK, NO]}, (USER,)
    ),
    "torchtune": Example(
        "torchtune",
        {
            "chosen_conversations": [said("human", "2+2?"), said("gpt", "4")],
            "rejected_conversations": [said("human", "2+2?"), said("gpt", "5")],
        },
        (USER,),
    ),
}


def refilled(value: Any, contents: Mapping[str, str]) -> Any:
    """Return the example row with words replaced everywhere."""
    if isinstance(value, str):
        in_json = value.startswith("[{")
        old = re.compile("|".join(map(re.escape, contents)))
        return old.sub(lambda one: json.dumps(contents[one[0]])[1:-1] if in_json else contents[one[0]], value)
    if isinstance(value, list):
        return [refilled(item, contents) for item in value]
    return {key: refilled(item, contents) for key, item in value.items()} if isinstance(value, dict) else value
