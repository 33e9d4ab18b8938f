"""Tokens put into lines of a width in cells, in reading flow."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.cells import cell_len, chop_cells

from prefscope.report.visible import visible

NOTHING = "∅"
LONGEST_NAME = 24
_JOINERS = ("\u200d", "\ufe0f")
"""Zero-width joiner and emoji selector: at the edge of a token they would change the width of the neighbour's cells."""
_SPACES = " →"
_WORDS = re.compile(r"\n|\S+[^\S\n]*|[^\S\n]+")


class Piece(NamedTuple):
    """The part of a token that stands in one line."""

    token: int
    text: str
    width: int


def wrap_tokens(
    tokens: Sequence[str], width: int, *, signs: Mapping[int, str] | None = None, line_break: str = "⏎"
) -> list[list[Piece]]:
    """Return the lines that tokens fill, at least one.

    A line ends before a word where it can, and inside a word only between tokens; a token that is wider than a line is
    cut. Every character is shown, also one that has no width of its own.

    Args:
        tokens: Texts from a data set or a model.
        width: Of a line, in cells.
        signs: What is written behind a token, by its index.
        line_break: What a line break inside a token is shown as, before it breaks the line.
    """
    wrapping = _Wrapping(max(width, 2))
    signs = signs or {}
    for index, token in enumerate(tokens):
        first, *others = token.replace("\r\n", "\n").split("\n") if "\n" in token else (token,)
        sign = signs.get(index, "")
        wrapping.put(index, (shown(first) if first or not others else "") + sign + (line_break if others else ""))
        for rest, part in enumerate(others, start=1):
            wrapping.end_line()
            if part or rest < len(others):
                wrapping.put(index, (shown(part) if part else "") + (line_break if rest < len(others) else ""))
    return wrapping.lines


def words(text: str) -> list[str]:
    """Return a text in words, each with the space behind it; they join to the text."""
    return _WORDS.findall(text.replace("\r\n", "\n"))


@functools.lru_cache(maxsize=1 << 16)
def shown(token: str) -> str:
    r"""Return a token as it is shown: without line breaks in it, and never without a cell of its own.

    >>> shown("\x1b[2J"), shown(""), shown("\u0301")
    ('␛[2J', '∅', '◌́')
    """
    if token.isascii() and token.isprintable():
        return token or NOTHING
    text = visible(token)
    if text.startswith(_JOINERS):
        text = f"\\u{ord(text[0]):04x}{text[1:]}"
    if text.endswith(_JOINERS[0]):
        text = f"{text[:-1]}\\u200d"
    return text if cell_len(text[0]) else f"◌{text}"


def named(token: str) -> str:
    r"""Return a token as it is named among numbers: in quotes, on one line, its end cut off if it is long.

    >>> named(" a"), named(".\n"), named("\u200b" * 9)
    ("' a'", "'.⏎'", "'\\u200b\\u200b\\u200b\\u200b…'")
    """
    text = shown(token.replace("\n", "⏎"))
    return f"'{text}'" if cell_len(text) <= LONGEST_NAME else f"'{chop_cells(text, LONGEST_NAME)[0]}…'"


class _Wrapping:
    """Lines that grow by one piece after the other."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[list[Piece]] = [[]]
        self._used = 0
        self._word = 0
        """Where in the last line its last word begins."""

    def put(self, token: int, text: str) -> None:
        """Write a token's text where the last line ends."""
        if not text:
            return
        size = cell_len(text)
        line = self.lines[-1]
        if text[0] in _SPACES or cell_len(text[0]) > 1 or (line and line[-1].text[-1] in _SPACES):
            self._word = len(line)
        for part in [text] if size <= self.width else chop_cells(text, self.width):
            piece = Piece(token, part, cell_len(part))
            while self._used + piece.width > self.width and self.lines[-1]:
                self._wrap()
            self.lines[-1].append(piece)
            self._used += piece.width

    def end_line(self) -> None:
        """Begin another line."""
        self.lines.append([])
        self._used = self._word = 0

    def _wrap(self) -> None:
        """Move the last word into another line; a word that has the line for itself stays, and is cut here."""
        line = self.lines[-1]
        cut = self._word or len(line)
        self.lines[-1], moved = line[:cut], line[cut:]
        self.end_line()
        self.lines[-1] = moved
        self._used = sum(piece.width for piece in moved)
