"""Wrap tokens into lines of a given width in terminal cells."""

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
"""Zero-width joiner and emoji selector: at the edge of a token they would change the width of its neighbour."""
_SPACES = " →"
_WORDS = re.compile(r"\n|\S+[^\S\n]*|[^\S\n]+")


class Piece(NamedTuple):
    """The part of a token that is on one line."""

    token: int
    text: str
    width: int


def wrap_tokens(
    tokens: Sequence[str], width: int, *, signs: Mapping[int, str] | None = None, line_break: str = "⏎"
) -> list[list[Piece]]:
    """Wrap tokens into lines; returns at least one line.

    Lines break between words if possible, otherwise between tokens; a token wider than a line is split. Every character
    is shown, including those of zero width.

    Args:
        tokens: Texts of the tokens, not escaped.
        width: Width of a line in cells.
        signs: Text appended to tokens, by token index.
        line_break: Text shown at a line break inside a token; the line ends after it.
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
    """Split text into words with their trailing whitespace; joined, they give the text with normalised line ends."""
    return _WORDS.findall(text.replace("\r\n", "\n"))


@functools.lru_cache(maxsize=1 << 16)
def shown(token: str) -> str:
    r"""Return the displayed text of a token without line breaks; it is always at least one cell wide.

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
    r"""Return a token for use in a line of numbers: in quotes, on one line, truncated if it is long.

    >>> named(" a"), named(".\n"), named("\u200b" * 9)
    ("' a'", "'.⏎'", "'\\u200b\\u200b\\u200b\\u200b…'")
    """
    text = shown(token.replace("\n", "⏎"))
    return f"'{text}'" if cell_len(text) <= LONGEST_NAME else f"'{chop_cells(text, LONGEST_NAME)[0]}…'"


class _Wrapping:
    """Builds the lines piece by piece."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[list[Piece]] = [[]]
        self._used = 0
        self._word = 0
        """Index of the piece in the last line where the last word begins."""

    def put(self, token: int, text: str) -> None:
        """Append text of a token to the last line, wrapping if needed."""
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
        """Start a new line."""
        self.lines.append([])
        self._used = self._word = 0

    def _wrap(self) -> None:
        """Move the last word to a new line; a word that fills the whole line is split here instead."""
        line = self.lines[-1]
        cut = self._word or len(line)
        self.lines[-1], moved = line[:cut], line[cut:]
        self.end_line()
        self.lines[-1] = moved
        self._used = sum(piece.width for piece in moved)
