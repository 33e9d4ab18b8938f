"""Numbers as the screens write them: signed with a true minus."""

from __future__ import annotations

import math


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign and so many decimals.

    >>> signed(-3.276), signed(0.5), signed(float("nan"))
    ('−3.28', '+0.50', 'nan')
    """
    return minus(f"{value:+.{digits}f}") if math.isfinite(value) else minus(str(value))


def minus(text: str) -> str:
    """Return the text of a number with a true minus."""
    return text.replace("-", "−")
