"""Format text and numbers to an exact width in terminal cells."""

from __future__ import annotations

import functools
import math
import re
import string

from rich.cells import cell_len, set_cell_size

from prefscope.report.visible import visible

ABSENT = "·"
"""Shown for a missing number."""

_BEFORE_THE_USER = re.compile(r"\A(?:\[system\]\n.*?\n\n)?\[user\]\n", re.DOTALL)
_UNSTEADY: dict[int, str | None] = dict.fromkeys([0x200D, *range(0xFE00, 0xFE10), *range(0x1F3FB, 0x1F400)])
_UNSTEADY |= {0x1F1E6 + at: letter for at, letter in enumerate(string.ascii_uppercase)}


def steady(text: str) -> str:
    """Return text without joiners, variation selectors and skin tones, and with emoji flags as letters.

    Terminals disagree on the width of such sequences.
    """
    return text.translate(_UNSTEADY)


@functools.lru_cache(maxsize=4096)
def one_line(text: str) -> str:
    """Return text on one line, with unsafe characters escaped and a width that all terminals agree on."""
    return visible(steady(text))


def without_roles(prompt: str) -> str:
    r"""Return a conversation without its system prompt and first role header: system prompts repeat from pair to pair.

    >>> without_roles("[system]\nBe brief.\n\n[user]\nWhy?"), without_roles("Why?")
    ('Why?', 'Why?')
    """
    return _BEFORE_THE_USER.sub("", prompt, count=1)


def fit(text: str, width: int) -> str:
    """Pad or truncate text to exactly `width` cells, with an ellipsis if it is truncated.

    >>> fit("日本語", 5), fit("ab", 4)
    ('日本…', 'ab  ')
    """
    if width <= 0:
        return ""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"


def number(value: float, width: int, decimals: int, *, signed: bool = False) -> str:
    """Format a number right-aligned in `width` cells, or `·` if it is nan; uses fewer decimals if it does not fit.

    >>> number(-0.667, 7, 2, signed=True), number(123456.7, 6, 3), number(float("nan"), 3, 2)
    ('  -0.67', '123457', '  ·')
    """
    if math.isnan(value):
        return ABSENT.rjust(width)
    sign = "+" if signed else ""
    value += 0.0  # a negative zero has no sign
    fixed = (f"{value:{sign}.{places}f}" for places in range(decimals, -1, -1))
    shortest = next((text for text in fixed if len(text) <= width), f"{value:{sign}.0e}")
    return fit(shortest.rjust(width), width)
