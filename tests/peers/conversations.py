"""Fifteen conversations as in TRL data sets, which chat templates treat differently."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
USER = {"role": "user", "content": "What is the weather in Oslo?"}
SYSTEM = {"role": "system", "content": "You answer in one short sentence."}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the city."}},
            "required": ["city"],
        },
    },
}


def said(content: Any, **more: Any) -> Json:
    """Return a turn of the assistant."""
    return {"role": "assistant", "content": content, **more}


def call(city: str, *, as_text: bool = False) -> list[Json]:
    """Return one tool call, with its arguments as an object or as JSON text."""
    arguments: Any = f'{{"city": "{city}"}}' if as_text else {"city": city, "days": 2, "metric": True}
    return [{"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": arguments}}]


def row(prompt: list[Json], chosen: list[Json], rejected: list[Json], **more: Any) -> Json:
    """Return a row of a preference data set."""
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, **more}


RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call00001", "content": '{"temperature": -3}'}
ASKED = [USER, said("", tool_calls=call("Oslo")), RESULT]
PARTS = [{"type": "text", "text": "It is cold "}, {"type": "text", "text": "and sunny."}]
CONVERSATIONS: dict[str, Json] = {
    "one turn": row([USER], [said("It is cold.")], [said("I do not know.")]),
    "system": row([SYSTEM, USER], [said("It is cold.")], [said("I do not know.")]),
    "several turns": row([USER, said("Cold."), {"role": "user", "content": "Why?"}], [said("Winter.")], [said("So.")]),
    "a response of several turns": row(
        [USER], [said("Cold."), {"role": "user", "content": "Sure?"}, said("Yes.")], [said("Warm.")]
    ),
    "white space and marks": row([USER], [said("\n  It is <b>cold</b> & “clear”.\n\n")], [said(" \tNo\n")]),
    "reasoning in tags": row(
        [USER], [said("<think>\nIt is January.\n</think>\n\nCold.")], [said("<think>\nHm.\n</think>\n\nWarm.")]
    ),
    "reasoning in a key": row(
        [USER], [said("Cold.", reasoning_content="It is January.")], [said("Warm.", reasoning_content="Hm, a guess.")]
    ),
    "reasoning in an earlier turn": row(
        [USER, said("<think>\nJanuary.\n</think>\n\nCold."), {"role": "user", "content": "Why?"}],
        [said("<think>\nIt is north.\n</think>\n\nWinter.")],
        [said("So.")],
    ),
    "a call": row([USER], [said("", tool_calls=call("Oslo"))], [said("I do not know.")], tools=[TOOL]),
    "a call with text arguments": row(
        [USER], [said("", tool_calls=call("Oslo", as_text=True))], [said("", tool_calls=call("Rome", as_text=True))]
    ),
    "a call with content": row(
        [USER], [said("Let me look that up.", tool_calls=call("Oslo"))], [said("It is cold.")], tools=[TOOL]
    ),
    "a tool's answer": row(ASKED, [said("It is -3 degrees.")], [said("It rains.")], tools=[TOOL]),
    "null content": row([USER], [said(None, tool_calls=call("Oslo"))], [said("I do not know.")], tools=[TOOL]),
    "null content in the prompt": row(
        [USER, said(None, tool_calls=call("Oslo")), RESULT], [said("It is -3 degrees.")], [said("It rains.")]
    ),
    "typed parts": row(
        [{"role": "user", "content": [{"type": "text", "text": "What is the weather in Oslo?"}]}],
        [said(PARTS)],
        [said([{"type": "text", "text": "I do not know."}])],
    ),
}
