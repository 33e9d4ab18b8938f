"""Shares as a line of bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(shares: Sequence[float] | NDArray[np.float64]) -> str:
    """Return shares from 0 to 1 as a line of bars.

    >>> sparkline([0.0, 0.4, 0.6, 1.0])
    '▁▄▅█'
    """
    return "".join(LEVELS[min(int(share * len(LEVELS)), len(LEVELS) - 1)] for share in shares)
