"""The tokens of a filter expression, and an error that points at a position in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prefscope.errors import UsageError

_LEXEMES = re.compile(
    r"""\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
        |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
        |`(?P<quoted>[^`]+)`
        |@(?P<scope>\w+)
        |(?P<name>[^\W\d]\w*)
        |(?P<sign><=|>=|<>|==|!=|!~|&&|\|\||[-+*/()<>=~,!])
        |(?P<end>$))""",
    re.VERBOSE,
)
_SPELLINGS: Mapping[str, str] = {"&&": "and", "||": "or", "!": "not", "<>": "!=", "=": "=="}
"""Signs of other languages, as they are written here."""
_INSTEAD: Mapping[str, str] = {
    "&": "Write and.",
    "|": "Write or.",
    "^": "Write a product: margin * margin.",
    "%": "There is no remainder or percentage: write 0.05 for 5%.",
    "[": 'Lists are in round brackets: category in ("a", "b").',
    "{": 'Lists are in round brackets: category in ("a", "b").',
    ";": "Join conditions with and, or.",
    "“": 'Texts are in straight quotes: "python".',
    "„": 'Texts are in straight quotes: "python".',
    "«": 'Texts are in straight quotes: "python".',
}
"""What to write instead of signs that are not part of the language."""


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

    @property
    def value(self) -> str:
        """The content of a text, without quotes and escapes."""
        return re.sub(r"\\(.)", r"\1", self.text[1:-1])


def lexemes_of(text: str) -> Iterator[Lexeme]:
    """Yield the lexemes of an expression; the last one is of kind `end`. Signs of other languages are translated.

    Raises:
        FilterError: If a character is not part of the language, or a text is not closed.
    """
    position, kind = 0, ""
    while kind != "end":
        found = _LEXEMES.match(text, position)
        if found is None:
            start = len(text) - len(text[position:].lstrip())
            what = "This quote is not closed" if text[start] in "\"'`" else "This is not valid here"
            raise FilterError(what, text, start, len(text), hint=_INSTEAD.get(text[start], ""))
        kind = str(found.lastgroup)
        content = _SPELLINGS.get(found[kind], found[kind]) if kind == "sign" else found[kind]
        yield Lexeme(kind, content, found.start(kind), found.end())
        position = found.end()
