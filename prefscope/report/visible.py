"""Make text from data sets and models safe to show: no control sequence reaches a terminal.

This is the only module that does so.
"""

from __future__ import annotations

import unicodedata

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_KEPT_JOINERS = {0x200C, 0x200D}  # Persian, Indic scripts and emoji need them
_FILLERS = (
    *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065), (0x2800, 0x2800)),
    *((0x3164, 0x3164), (0xFE00, 0xFE0D), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1D159, 0x1D159)),
    *((0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
)
"""Invisible letters, marks and reserved characters, without FE0E and FE0F, which select the style of an emoji."""
_NO_CHARACTERS = range(0xFDD0, 0xFDF0)
_HIDDEN = frozenset(code for first, last in _FILLERS for code in range(first, last + 1)) | {*_NO_CHARACTERS}


def visible(text: str) -> str:
    r"""Return text on one line, with control, bidirectional and invisible characters as pictures or `\u....` codes.

    >>> visible("a\x1b[2Jb\nc")
    'a␛[2Jb⏎c'
    """
    return "".join(map(_shown, text.replace("\r\n", "\n").replace("\n", "⏎").replace("\t", "→")))


def visible_lines(text: str) -> str:
    """Return text with line breaks kept and other dangerous characters shown as by `visible`."""
    return "\n".join(visible(line) for line in text.split("\n"))


def is_shown(character: str) -> bool:
    """Return whether a character is visible and harmless to a terminal."""
    code = ord(character)
    if code < 0x80 or code in _KEPT_JOINERS:  # noqa: PLR2004 (ASCII)
        return code not in _PICTURES
    # The last two code points of every plane are noncharacters; XML forbids U+FFFE and U+FFFF.
    if code in _HIDDEN or code & 0xFFFE == 0xFFFE:  # noqa: PLR2004
        return False
    # Cc: C1 controls; Cf: bidi overrides, zero-width characters, tags; Cs: lone surrogates; Zl, Zp: line separators.
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _shown(character: str) -> str:
    if is_shown(character):
        return character
    code = ord(character)
    return _PICTURES.get(code) or f"\\u{code:04x}"
