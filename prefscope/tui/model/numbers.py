"""Number formats of the screens, with a true minus sign."""

from __future__ import annotations

import math


def signed(value: float, digits: int = 2) -> str:
    """Format a number with its sign and a fixed number of decimals, or return `·` if it is nan.

    >>> signed(-3.276), signed(0.5), signed(float("nan"))
    ('−3.28', '+0.50', '·')
    """
    return figure(value, f"+.{digits}f")


def figure(value: float, form: str) -> str:
    """Format a number, or return `·` if it is nan.

    >>> figure(-0.5, ".1f"), figure(float("nan"), ".1%")
    ('−0.5', '·')
    """
    return "·" if math.isnan(value) else minus(f"{value:{form}}")


def minus(text: str) -> str:
    """Replace hyphens in the text of a number with true minus signs."""
    return text.replace("-", "−")
