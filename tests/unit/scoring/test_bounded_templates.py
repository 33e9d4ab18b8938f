"""Chat templates that would never end or fill the memory are refused at the operation that grows."""

from __future__ import annotations

import re
import threading
from dataclasses import replace
from typing import Any, cast

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from prefscope.data.records import BadRow, Json
from prefscope.errors import ModelError
from prefscope.scoring import template_limits
from prefscope.scoring.bounded_templates import bounded
from prefscope.scoring.template_limits import STOPPED, TemplateTimeError
from prefscope.scoring.tokenization import PairTokenizer, TokenizedPair
from prefscope.settings import TokenizationSettings
from tests.unit.scoring.word_pairs import CHAT, CONVERSATION, word_tokenizer

DOUBLED = "{% set ns = namespace(x='ab') %}{% for _ in range(99) %}"
TOO_LARGE = {
    "a power": "{{ 2**(2**33) }}",
    "a product": "{% set ns = namespace(x=7) %}{% for _ in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "a repeated text": "{{ 'x' * 10**10 }}",
    "a repeated list": "{{ ['x' * 1000000] * 10000 }}",
    "a doubled sum": DOUBLED + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "a doubled text": DOUBLED + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "a doubled block": DOUBLED + "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
    "an output": "{% set x = 'x' * 10000000 %}{{ x }}{{ x }}",
    "a filter's width": "{{ 'x' | center(10**10) }}",
    "a method's width": "{{ 'x'.ljust(10**10) }}",
    "a width of %": "{{ '%10000000000d' % 5 }}",
    "a width from an argument of %": "{{ '%*d' % (10**10, 5) }}",
    "many fields of %": "{{ ('%s' * 100000) % ((['x' * 1000] * 100000) | list) }}",
    "a width of format": "{{ '{:>10000000000}'.format(1) }}",
    "a width from an argument of format": "{{ '{:{}}'.format(1, 10**10) }}",
    "a replacement": "{{ ('x' * 1000000).replace('x', 'y' * 1000000) }}",
    "a filter's replacement": "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
    "a separator": "{{ ('x' * 1000000).join(['y'] * 1000) }}",
    "a translation": "{{ ('x' * 1000).translate({120: 'y' * 1000000}) }}",
    "an indentation of JSON": "{{ [1] | tojson(indent=10**10) }}",
    "decimals": "{{ 1.5 | round(10**10) }}",
    "bytes": "{{ (1).to_bytes(10**10) }}",
    "a sum of lists": "{{ [[1]] | sum(start=[]) }}",
}
ENDLESS = {
    "loops": "{% for _ in range(100000) %}{% for _ in range(100000) %}{% endfor %}{% endfor %}",
    "a recursive loop": "{% for _ in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a nested list": "{% set ns = namespace(x=1) %}{% for _ in range(99) %}{% set ns.x = [ns.x] * 2 %}{% endfor %}",
}


def tokenize(template: str, **variables: Json) -> TokenizedPair | BadRow:
    pair = replace(CONVERSATION, chat_template_kwargs=variables)
    tokenizer = word_tokenizer(chat_template=template)
    (found,) = PairTokenizer(tokenizer, TokenizationSettings(), None, frozenset()).tokenize([pair])
    return found


def rendered(template: str, messages: list[dict[Any, Any]]) -> str:
    """Return messages as rendered by transformers."""
    (text,), _ = cast("Any", render_jinja_template([messages], chat_template=template))
    return str(text)


@pytest.mark.parametrize("template", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_rendering_that_grows_too_large_refuses_the_row(template: str) -> None:
    found = tokenize(template)
    assert isinstance(found, BadRow)
    assert re.search(r"it (makes a (text|number)|uses a width|writes a field|adds up lists)", found.reason)


@pytest.mark.parametrize("template", ENDLESS.values(), ids=ENDLESS)
def test_a_rendering_that_never_ends_is_refused_after_its_time_limit(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_limits, "SECONDS", 0.05)
    with pytest.raises(ModelError, match=r"^line 1: the chat template does not finish: it takes more than 0\.05 s"):
        tokenize(template)


def test_endless_macros_refuse_the_row() -> None:
    found = tokenize("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}")
    assert isinstance(found, BadRow)
    assert "maximum recursion depth exceeded" in found.reason


def test_an_abandoned_rendering_ends() -> None:
    stop = threading.Event()
    stop.set()
    token = STOPPED.set(stop)
    try:
        with pytest.raises(TemplateTimeError, match=r"^it was interrupted$"), bounded():
            pass
    finally:
        STOPPED.reset(token)


def test_a_lone_surrogate_in_the_rendered_text_refuses_the_row() -> None:
    found = tokenize(r"{{ '\ud800' }}")
    assert isinstance(found, BadRow)
    assert found.reason.endswith(r"its text has half a surrogate pair, \ud800, which is not a character")


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ loop.index }}{{ loop.length }}{{ loop.last }}{{ loop.nextitem }}{% endfor %}",
        "{{ 'a' ~ 1 ~ none ~ [1, messages[0]] ~ {'k': messages} }}",
        "{{ messages | tojson(indent=2) }}{{ [1, 2] | map('string') | join(', ') }}{{ messages | length }}",
        "{% set a, b = 1, messages[0].role %}{{ a }}{{ b }}{{ (a, b) }}{{ '%.2f%%' % 5 }}{{ '{:,}'.format(12) }}",
        "{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}{{ 'a-b'.split('-') }}{{ 2 ** 10 * 3 + 1 }}",
        "{% generation %}{{ messages[0].content | trim | replace('w', 'v') }}{% endgeneration %}{{ nothing }}",
        "{% macro f(x) %}<{{ x }}>{% endmacro %}{% set y %}{{ f(1) }}{% endset %}{{ y }}{{ 1 in [1, 2] }}",
    ],
)
def test_a_bounded_rendering_gives_the_same_text(template: str) -> None:
    messages = [{"role": "user", "content": "why"}, {"role": "assistant", "content": "so"}]
    with bounded():
        found = rendered(template, messages)
    assert found == rendered(template, messages)


def test_renderings_of_other_libraries_stay_unbounded() -> None:
    with bounded():
        pass
    assert rendered("{{ ('x' * 20000000) | length }}", []) == "20000000"


@pytest.mark.parametrize(
    "name",
    [
        *("chat_template", "tokenize", "add_generation_prompt", "continue_final_message", "tools", "return_dict"),
        *(
            "padding",
            "truncation",
            "max_length",
            "tokenizer_kwargs",
            "conversation",
            "conversations",
            "messages",
            "self",
        ),
    ],
)
def test_a_variable_named_like_a_rendering_argument_refuses_the_row(name: str) -> None:
    found = tokenize(CHAT, **{"enable_thinking": True, name: "x"})
    assert isinstance(found, BadRow)
    assert found.reason == (
        f"`chat_template_kwargs` has `{name}`, which would change how the template is called; only variables of the "
        "template are allowed"
    )


@pytest.mark.parametrize("name", ["eos_token", "raise_exception", "namespace"])
def test_a_row_cannot_replace_variables_set_by_the_library(name: str) -> None:
    found = tokenize(CHAT, **{name: "x"})
    assert isinstance(found, BadRow)
    assert found.reason == f"`chat_template_kwargs` has `{name}`, which would replace the tokenizer's own"


@pytest.mark.parametrize("variables", [{"enable_thinking": False}, {"documents": [{"title": "a", "text": "b"}]}])
def test_a_variable_of_the_template_is_passed_on(variables: dict[str, Json]) -> None:
    (name,) = variables
    found = tokenize("{% if " + name + " is defined %}" + CHAT + "{% else %}{{ 1 / 0 }}{% endif %}", **variables)
    assert isinstance(found, TokenizedPair)
