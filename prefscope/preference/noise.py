"""The noise floor of margins due to rounding errors, and which margins lie within it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILE = 0.99


def noise_floor(some: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the 99th percentile of the absolute differences between two computations of the same log-ratio gaps.

    Args:
        some: Chosen minus rejected log-ratio of each pair, in nats.
        others: The same, computed in other batches or in another dtype.

    Returns:
        The floor in nats; nan if no pair is finite in both.
    """
    apart = np.abs(some - others)
    apart = apart[np.isfinite(apart)]
    return float(np.quantile(apart, QUANTILE)) if apart.size else math.nan


def within_noise(margins: NDArray[Any], floor: float, beta: float) -> NDArray[np.bool_]:
    """Return which margins cannot be distinguished from 0: those of at most beta × floor. Same shape as the margins.

    Args:
        margins: Margins in beta × nats.
        floor: Noise floor in nats, as returned by `noise_floor`.
        beta: Beta of the margins.

    >>> within_noise(np.array([0.02, -0.2, math.nan]), floor=0.5, beta=0.1)
    array([ True, False, False])
    """
    with np.errstate(invalid="ignore"):
        within: NDArray[np.bool_] = np.abs(margins) <= beta * floor
    return within
