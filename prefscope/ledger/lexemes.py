"""The tokens of a filter expression, and an error that points at a position in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from prefscope.errors import UsageError

_LEXEMES = re.compile(
    r"""\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
        |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
        |`(?P<quoted>[^`]+)`
        |@(?P<scope>\w+)
        |(?P<name>[^\W\d]\w*)
        |(?P<sign><=|>=|==|!=|!~|[-+*/()<>=~,])
        |(?P<end>$))""",
    re.VERBOSE,
)


class FilterError(UsageError):
    """An error in an expression; `start` and `stop` delimit the characters of `text` that it is about."""

    def __init__(self, what: str, text: str, start: int, stop: int, *, hint: str = "") -> None:
        self.text, self.start, self.stop = text, start, max(stop, start + 1)
        super().__init__(what, hint=hint)

    def __str__(self) -> str:
        return f"{super().__str__()}\n  {self.text}\n  {' ' * self.start}{'^' * (self.stop - self.start)}"


@dataclass(frozen=True, slots=True)
class Lexeme:
    """A word, a sign, a number or a text, with its position."""

    kind: str
    """`number`, `text`, `quoted` (a column in backticks), `scope` (without its @), `name`, `sign` or `end`."""
    text: str
    start: int
    stop: int


def lexemes_of(text: str) -> Iterator[Lexeme]:
    """Yield the lexemes of an expression; the last one is of kind `end`.

    Raises:
        FilterError: If a character is not part of the language, or a text is not closed.
    """
    position, kind = 0, ""
    while kind != "end":
        found = _LEXEMES.match(text, position)
        if found is None:
            start = len(text) - len(text[position:].lstrip())
            what = "This quote is not closed" if text[start] in "\"'`" else "This is not valid here"
            raise FilterError(what, text, start, len(text))
        kind = str(found.lastgroup)
        yield Lexeme(kind, found[kind], found.start(kind), found.end())
        position = found.end()
