"""A last line of defence: no control characters and, in ASCII mode, no non-ASCII characters reach the terminal.

Text is already escaped where it is put on the screen (report/visible.py); these filters see every rendered line.
"""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from prefscope.report.visible import visible

_LOOKALIKES: dict[str, str] = {
    "-": "─━┄┅═╌╍▔▁−⁻",
    "|": "│┃┆┇║▏▎▍▌▐▕",
    "+": "╭╮╰╯┌┐└┘├┤┬┴┼╔╗╚╝┏┓┗┛┣┫┳┻╋✓⁺±",
    "#": "█▉▊▋▇▆▅",
    "%": "▒░▓",
    "_": "▂▃▄▀",
    "*": "•·●◆",
    ".": "".join(map(chr, range(0x2801, 0x2900))),  # braille
    "<": "≤◀←",
    ">": "≥▶→",
    "^": "↑▲",
    "v": "↓▼",
    "~": "…⇄",
    "x": "×✗",
    "!": "⚠",
    "$": "⏎",
    **dict(zip("bgDSprselk", "βγΔΣπρσελκ", strict=True)),
}
_ASCII = str.maketrans({one: plain for plain, alike in _LOOKALIKES.items() for one in alike})


class ControlFilter(LineFilter):
    """Replaces control characters that were not escaped earlier."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments with control characters replaced; widths do not change."""
        del background
        return [segment if _is_safe(segment.text) else _replaced(segment) for segment in segments]


class AsciiFilter(LineFilter):
    """Replaces non-ASCII characters, for terminals that cannot show them."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """Return the segments in ASCII; widths do not change."""
        del background
        return [
            segment if segment.text.isascii() else Segment(_to_ascii(segment.text), segment.style, segment.control)
            for segment in segments
        ]


def _is_safe(text: str) -> bool:
    return text.isprintable() or visible(text) == text


def _replaced(segment: Segment) -> Segment:
    """Return a segment with unsafe characters replaced by question marks; its width does not change."""
    text = "".join(one if visible(one) == one else "?" * cell_len(one) for one in segment.text)
    return Segment(text, segment.style, segment.control)


def _to_ascii(text: str) -> str:
    return "".join(map(_ascii_character, text.replace(" ±", "+-").translate(_ASCII)))


def _ascii_character(character: str) -> str:
    if character.isascii():
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    width = cell_len(character)
    return plain if width and len(plain) == width else "?" * width
