"""Plain searches: words, "exact phrases" and `re:` patterns, which become expressions of the filter language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prefscope.ledger.lexemes import FilterError
from prefscope.ledger.search import Needle, problem_of

_WORDS = re.compile(r'\s*(?:re:(?P<pattern>\S.*)|"(?P<phrase>[^"]*)(?:"|\Z)|(?P<word>\S+))', re.DOTALL)
_MEANT = re.compile(r"[<>=~]|&&|\|\||(?:^|\s)@\w|`|\b(?:abs|flag|has|lint|mark|matches)\s*\(")
"""Signs of an expression, which are searched for only in quotes."""
IN_QUOTES = "In quotes, this searches the texts."


@dataclass(frozen=True, slots=True)
class _Found:
    needle: Needle
    start: int
    stop: int
    is_word: bool


def read_filter(text: str, parse: Callable[[str], object]) -> str:
    r"""Return the expression for what a user typed: the text itself if it is one, otherwise the plain search.

    All words, phrases and patterns of a plain search must occur in a pair's texts. `re:` takes the rest of the line.

    Args:
        text: What the user typed.
        parse: Raises FilterError for a text that is not an expression.

    Raises:
        FilterError: If the text was meant as an expression that is invalid, or a pattern is invalid.
    """
    try:
        parse(text)
    except FilterError as error:
        found = [*_split(text)]
        words = " ".join(one.needle.text for one in found if one.is_word)
        if not found or _MEANT.search(words):
            hint = f"{error.hint} {IN_QUOTES}".strip() if error.what.startswith("There is no column") else error.hint
            raise FilterError(error.what, error.text, error.start, error.stop, hint=hint) from None
        return " and ".join(_call(text, one) for one in found)
    return text


def _split(text: str) -> Iterator[_Found]:
    for found in _WORDS.finditer(text):
        kind = str(found.lastgroup)
        if content := found[kind]:
            yield _Found(Needle(content, kind == "pattern"), found.start(kind), found.end(kind), kind == "word")


def _call(text: str, found: _Found) -> str:
    needle = found.needle
    if needle.is_pattern and (problem := problem_of(needle.text)):
        what, start, stop = problem
        raise FilterError(f"This pattern is invalid: {what}", text, found.start + start, found.start + stop)
    return written(needle)


def written(needle: Needle) -> str:
    r"""Return the call that searches for a needle.

    >>> print(written(Needle('say "\\"')))
    has("say \"\\\"")
    """
    escaped = re.sub(r'(["\\])', r"\\\1", needle.text)
    return f'{"matches" if needle.is_pattern else "has"}("{escaped}")'
