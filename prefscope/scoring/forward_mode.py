"""Types shared by engine, models and ranks: the forward mode, and the interface to other ranks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from prefscope.scoring.head import Measure
from prefscope.scoring.sequences import TokenSequence

ForwardMode: TypeAlias = Literal["packed", "padded"]
"""Packed: sequences end to end in one row, without padding. Padded: one row per sequence."""


class OtherRanks(Protocol):
    """The processes that hold the other parts of a split model (ranks.py)."""

    def followed(
        self,
        model: int,
        path: ForwardMode,
        sequences: Sequence[TokenSequence],
        measure: Measure,
        poisoned: NDArray[np.int64] | None,
        *,
        is_fused: bool,
    ) -> AbstractContextManager[None]:
        """Make the other processes run their part of a forward pass while this process runs its own."""
