"""Text from data sets and models, made safe to show: no control sequence reaches a terminal.

The one place where untrusted text is made visible.
"""

from __future__ import annotations

import unicodedata

_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_KEPT_JOINERS = {0x200C, 0x200D}  # Persian, Indic scripts and emoji need them


def visible(text: str) -> str:
    r"""Return text on one line whose control, bidirectional and invisible characters are pictures or `\u....` codes.

    >>> visible("a\x1b[2Jb\nc")
    'a␛[2Jb⏎c'
    """
    return "".join(map(_shown, text.replace("\r\n", "\n").replace("\n", "⏎").replace("\t", "→")))


def visible_lines(text: str) -> str:
    """Return text whose line breaks stay and whose other dangerous characters are shown as by `visible`."""
    return "\n".join(visible(line) for line in text.split("\n"))


def _shown(character: str) -> str:
    code = ord(character)
    if code in _PICTURES:
        return _PICTURES[code]
    if code < 0x80 or code in _KEPT_JOINERS:  # noqa: PLR2004 (ASCII)
        return character
    # Cc: C1 controls; Cf: bidi overrides, zero-width characters, tags; Cs: lone surrogates; Zl, Zp: line separators.
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return f"\\u{code:04x}"
    return character
