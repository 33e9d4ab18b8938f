"""Numbers as the screens write them: signed with a true minus."""

from __future__ import annotations

import math


def signed(value: float, digits: int = 2) -> str:
    """Return a number with its sign and so many decimals.

    >>> signed(-3.276), signed(0.5), signed(float("nan"))
    ('−3.28', '+0.50', 'nan')
    """
    return minus(f"{value:+.{digits}f}") if math.isfinite(value) else minus(str(value))


def figure(value: float, form: str) -> str:
    """Return a number in a format, a dot where there is none.

    >>> figure(-0.5, ".1f"), figure(float("nan"), ".1%")
    ('−0.5', '·')
    """
    return "·" if math.isnan(value) else minus(f"{value:{form}}")


def minus(text: str) -> str:
    """Return the text of a number with a true minus."""
    return text.replace("-", "−")
