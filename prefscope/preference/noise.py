"""How much of a margin is rounding: the noise floor, and which margins lie within it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILE = 0.99


def noise_floor(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the 99th percentile of how far two computations of the same log-ratio differences are apart.

    Args:
        some: Chosen minus rejected log-ratio of each pair, in nats.
        others: The same, computed in other batches or in another dtype.

    Returns:
        In nats; nan where no pair is finite in both.
    """
    apart = np.abs(some - others)
    apart = apart[np.isfinite(apart)]
    return float(np.quantile(apart, QUANTILE)) if apart.size else math.nan


def within_noise(margins: NDArray[Any], floor: float, beta: float) -> NDArray[np.bool_]:
    """Return which margins no one can tell from 0: those of at most beta × the floor. Shape of the margins.

    Args:
        margins: In beta × nats.
        floor: In nats of log-ratio difference, as `noise_floor` returns.
        beta: That of the margins.

    >>> within_noise(np.array([0.02, -0.2, math.nan]), floor=0.5, beta=0.1)
    array([ True, False, False])
    """
    with np.errstate(invalid="ignore"):
        within: NDArray[np.bool_] = np.abs(margins) <= beta * floor
    return within
