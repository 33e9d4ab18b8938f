"""Format amounts and time spans with few digits."""

from __future__ import annotations

MINUTE_AND_A_HALF, HOUR_AND_A_HALF = 90, 5400


def count(number: float) -> str:
    """Format a number with three significant digits.

    >>> count(134_515_008), count(70_123), count(1_100_000_000)
    ('135 M', '70.1 k', '1.1 G')
    """
    for least, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= least:
            return f"{number / least:.3g}{unit}"
    return f"{number:.0f}"


def size(number: float) -> str:
    """Format a number of bytes.

    >>> size(538_000_000)
    '538 MB'
    """
    return f"{count(number)}B"


def duration(seconds: float) -> str:
    """Format a time span in its largest unit.

    >>> duration(3), duration(400), duration(20_000)
    ('3 s', '7 min', '5.6 h')
    """
    if seconds < MINUTE_AND_A_HALF:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60)} min" if seconds < HOUR_AND_A_HALF else f"{seconds / 3600:.1f} h"
