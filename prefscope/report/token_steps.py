"""Thresholds of the colours of tokens, on the screens and in report files; the same for every ledger."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.explanation import Side

Steps: TypeAlias = tuple[float, float, float]
"""Thresholds for weak, medium and strong colours."""
LOGRATIO_STEPS: Steps = (0.05, 0.15, 0.5)
"""Thresholds of |Δ| in nats: a token is 5%, 16% or 65% more likely than under the reference, or as much less."""
EFFECT_SIGNS: dict[Side, int] = {"chosen": 1, "rejected": -1}
"""Effect on the margin of raising the log-prob of a token."""


def effect_levels(side: Side, changes: NDArray[np.float64]) -> NDArray[np.int8]:
    """Return the level of each token's colour, −3 to 3: positive if its Δ raises the margin; 0 for nan. Same shape.

    >>> effect_levels("chosen", np.array([0.3, -0.05, 0.04])), effect_levels("rejected", np.array([0.3, -1.0]))
    (array([ 2, -1,  0], dtype=int8), array([-2,  3], dtype=int8))
    """
    sizes = np.searchsorted(LOGRATIO_STEPS, np.abs(changes), side="right")
    return (sizes * np.sign(np.nan_to_num(changes)) * EFFECT_SIGNS[side]).astype(np.int8)
