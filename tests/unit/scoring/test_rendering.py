"""Which content of a pair is missing from its rendered text, however a template transforms it."""

from __future__ import annotations

from typing import Any, cast

import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from prefscope.data.records import Message, PreferencePair, text_to_json
from prefscope.scoring.rendering import Rendered, left_out

USER = Message("user", "What is the weather in Oslo?")
CALL = {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Oslo", "days": 2}}}
TEXT_CALL = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "get_weather", "description": "Return the weather of a city."}}
CONTENT = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
CALLS = (
    "{% for m in messages %}{{ m['content'] }}"
    "{% for c in m['tool_calls'] %}{{ c['function'] | tojson }}{% endfor %}{% endfor %}"
)
EITHER = (
    "{% for m in messages %}{% if m['tool_calls'] %}{{ m['tool_calls'] | tojson }}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
XML = (
    "{% for m in messages %}{{ m['content'] }}{% for c in m['tool_calls'] %}<{{ c['function']['name'] }}>"
    "{% for k, v in c['function']['arguments'].items() %}<{{ k }}>{{ v }}</{{ k }}>{% endfor %}{% endfor %}{% endfor %}"
)
FIRST_CALL = CALLS.replace("c in m['tool_calls']", "c in (m['tool_calls'] or [])[:1]")
FIRST_LETTERS = CONTENT.replace("m['content']", "m['content'][:30]")
NO_THINKING = "{% for m in messages %}{{ m['content'].split('</think>')[-1] }}{% endfor %}"


def missing(template: str, chosen: Message, *, prompt: tuple[Message, ...] = (USER,), **more: Any) -> tuple[str, ...]:
    """Return what a template omits from a pair whose rejected response is plain text."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    compiled = environment.from_string(template)

    def write(pair: PreferencePair) -> Rendered:
        prompt = text_to_json(pair.prompt)
        texts = (prompt, prompt + text_to_json(pair.chosen), prompt + text_to_json(pair.rejected))
        return cast("Rendered", tuple(compiled.render(messages=text, tools=pair.tools) for text in texts))

    pair = PreferencePair(0, 1, prompt, (chosen,), (Message("assistant", "I can not know that."),), **more)
    return left_out(pair, write(pair), write)


def said(content: str | None, **extra: Any) -> Message:
    return Message("assistant", cast("str", content), extra)


@pytest.mark.parametrize(
    ("template", "chosen"),
    [
        (CONTENT, said("It is cold.")),
        (CONTENT.replace("m['content']", "m['content'] | trim"), said("\n It is cold.  \n\n")),
        (CONTENT.replace("m['content']", "m['content'] | tojson"), said('It is "cold" & <b>wet</b>.\n\nVery é.')),
        (CONTENT.replace("m['content']", "m['content'] | upper"), said("It is cold.")),
        (CONTENT.replace("m['content']", "m['content'].split() | join(' ')"), said("It  is\n\ncold.")),
        (CONTENT, said("<think>\nIt is January.\n</think>\n\nCold.")),
        (CALLS, said("", tool_calls=[CALL])),
        (CALLS, said("", tool_calls=[TEXT_CALL])),
        (CALLS, said("Let me see.", tool_calls=[CALL, CALL])),
        (XML, said("", tool_calls=[CALL])),
        (CONTENT, said("It is cold.", id="m 1 of the list", train=True, weight=0.5, name="assistant")),
        (CONTENT, said("It is cold.", tool_calls=None, reasoning_content=None)),
        (CONTENT, said("It is January. Cold.", reasoning="It is January.")),
        (CONTENT, said("  ")),
    ],
    ids=[
        *("as it is", "trimmed", "as JSON", "in capitals", "with other white space", "reasoning in tags", "a call"),
        *("a call with text arguments", "calls with content", "a call as XML", "keys that say nothing", "null keys"),
        *("reasoning that the content has, too", "an empty response"),
    ],
)
def test_content_rendered_in_any_form_counts_as_rendered(template: str, chosen: Message) -> None:
    assert missing(template, chosen) == ()


@pytest.mark.parametrize(
    ("template", "chosen", "expected"),
    [
        (CONTENT, said("", tool_calls=[CALL]), ("response: tool_calls",)),
        (CONTENT, said("", function_call=CALL["function"]), ("response: function_call",)),
        (XML.replace("{{ v }}", ""), said("", tool_calls=[CALL]), ("response: tool_calls",)),
        (FIRST_CALL, said("", tool_calls=[CALL, CALL]), ("response: tool_calls",)),
        (CONTENT, said("Cold.", reasoning_content="It is January."), ("response: reasoning_content",)),
        (CONTENT, said("Cold.", thinking="Hm."), ("response: thinking",)),
        (CONTENT, said("Cold.", scratchpad="January is winter."), ("response: scratchpad",)),
        (NO_THINKING, said("<think>\nIt is January.\n</think>\n\nCold."), ("response: reasoning",)),
        (NO_THINKING, said("It is January.</think>Cold."), ("response: reasoning",)),
        (
            FIRST_LETTERS,
            said("It is cold.\n" + 9 * "Very "),
            ("response: content",),
        ),
        (
            "{% for m in messages %}{{ m['text'] }}{% endfor %}",
            said("It is cold."),
            ("prompt: content", "response: content"),
        ),
        (
            EITHER,
            said("Oslo", tool_calls=[CALL]),
            ("response: content",),
        ),
    ],
    ids=[
        *("calls", "a function call of the older layout", "values of arguments", "the second call", "reasoning"),
        *("thinking of a word", "a key of its own", "reasoning in tags", "reasoning without an opening tag"),
        *("the end of a content", "every content", "content beside calls, of which it is a part"),
    ],
)
def test_omitted_content_is_named(template: str, chosen: Message, expected: tuple[str, ...]) -> None:
    assert missing(template, chosen) == expected


def test_null_content_is_rendered_as_the_template_has_it() -> None:
    assert missing(CALLS, said(None, tool_calls=[CALL])) == ()


def test_a_system_turn_that_the_template_drops_is_left_out_of_the_prompt() -> None:
    template = "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
    prompt = (Message("system", "You answer in one sentence."), USER)
    assert missing(template, said("It is cold."), prompt=prompt) == ("prompt: content",)


def test_reasoning_of_earlier_turns_is_dropped_by_design() -> None:
    prompt = (USER, said("<think>\nIt is January.\n</think>\n\nCold.", reasoning_content="Winter it is."), USER)
    assert missing(NO_THINKING, said("It is cold."), prompt=prompt) == ()


def test_calls_of_earlier_turns_are_part_of_the_prompt() -> None:
    prompt = (USER, said("", tool_calls=[CALL]), Message("tool", "-3 degrees"))
    assert missing(CONTENT, said("It is cold."), prompt=prompt) == ("prompt: tool_calls",)
    assert missing(CALLS, said("It is cold."), prompt=prompt) == ()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CONTENT, ("prompt: tools",)),
        ("{{ tools | tojson }}" + CONTENT, ()),
        ("{% for t in tools %}{{ t['function']['name'] }}{% endfor %}" + CONTENT, ()),
    ],
    ids=["not rendered", "as JSON", "by their names"],
)
def test_tools_are_part_of_the_prompt(template: str, expected: tuple[str, ...]) -> None:
    assert missing(template, said("It is cold."), tools=[TOOL]) == expected


def test_content_counts_as_read_if_the_template_refuses_a_changed_value() -> None:
    strict = (
        "{% for m in messages %}{% for c in m['tool_calls'] %}"
        "{% if c['function']['name'] != 'get_weather' %}{{ 1 // 0 }}{% endif %}{% endfor %}"
        "{{ m['content'] }}{% endfor %}"
    )
    assert missing(strict, said("", tool_calls=[CALL])) == ("response: tool_calls",)
    named = {"function": {"name": "get_weather", "arguments": {}}}
    assert missing(strict, said("", tool_calls=[named])) == ()


def test_plain_text_is_scored_unchanged() -> None:
    pair = PreferencePair(0, 1, "why?", "<think>so</think>yes", "no")
    assert left_out(pair, ("why?", "why?yes", "why?no"), lambda _: ("", "", "")) == ()
