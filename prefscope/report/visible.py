"""Text from data sets and models, made safe to show: no control sequence reaches a terminal.

The one place where untrusted text is made visible.
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
"""Letters, marks and reserved characters that are drawn as nothing; FE0E and FE0F choose how an emoji looks."""
_NO_CHARACTERS = range(0xFDD0, 0xFDF0)
_HIDDEN = frozenset(code for first, last in _FILLERS for code in range(first, last + 1)) | {*_NO_CHARACTERS}


def visible(text: str) -> str:
    r"""Return text on one line whose control, bidirectional and invisible characters are pictures or `\u....` codes.

    >>> visible("a\x1b[2Jb\nc")
    'a␛[2Jb⏎c'
    """
    return "".join(map(_shown, text.replace("\r\n", "\n").replace("\n", "⏎").replace("\t", "→")))


def visible_lines(text: str) -> str:
    """Return text whose line breaks stay and whose other dangerous characters are shown as by `visible`."""
    return "\n".join(visible(line) for line in text.split("\n"))


def is_shown(character: str) -> bool:
    """Return whether a character is one that a person sees and that steers nothing."""
    code = ord(character)
    if code < 0x80 or code in _KEPT_JOINERS:  # noqa: PLR2004 (ASCII)
        return code not in _PICTURES
    # Of every plane the last two code points are no characters, and XML cannot hold U+FFFE and U+FFFF.
    if code in _HIDDEN or code & 0xFFFE == 0xFFFE:  # noqa: PLR2004
        return False
    # Cc: C1 controls; Cf: bidi overrides, zero-width characters, tags; Cs: lone surrogates; Zl, Zp: line separators.
    return unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}


def _shown(character: str) -> str:
    if is_shown(character):
        return character
    code = ord(character)
    return _PICTURES.get(code) or f"\\u{code:04x}"
