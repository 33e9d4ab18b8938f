"""Sums of token log-probs beyond the length of the shorter response of each pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.arrays import Columns, list_offsets
from prefscope.ledger.columns import TAIL_LOGPS, TOKEN_LOGPS

if TYPE_CHECKING:
    import pyarrow as pa

    from prefscope.ledger.opened import LedgerFile


def tail_sums(file: LedgerFile) -> Columns:
    """Return Σ over the tokens after the first min(n_w, n_l) of each response, in nats, for both models.

    The sum is 0 for a response that is not the longer one, and nan if token log-probs are missing or not finite.

    Args:
        file: A ledger with token log-probs.
    """
    parts: dict[str, list[NDArray[np.float64]]] = {name: [] for name in TAIL_LOGPS}
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=[*TOKEN_LOGPS]).combine_chunks()
        lists = {name: table.column(name).combine_chunks() for name in TOKEN_LOGPS}
        counts = [np.diff(list_offsets(lists[name])) for name in TOKEN_LOGPS[:2]]
        shorter = np.minimum(*counts)
        for tail, name in zip(TAIL_LOGPS, TOKEN_LOGPS, strict=True):
            parts[tail].append(_beyond(lists[name], shorter))
    return {name: np.concatenate([*found, np.empty(0)]) for name, found in parts.items()}


def _beyond(lists: pa.ListArray, kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum of each list after its first `kept` values; nan if the list is null or shorter."""
    offsets = list_offsets(lists)
    values = np.from_dlpack(lists.flatten()).astype(np.float64)
    starts, ends = offsets[:-1] + kept, offsets[1:]
    sums = np.full(len(kept), np.nan)
    there = starts <= ends
    for at in np.flatnonzero(there & (starts < ends)).tolist():
        sums[at] = values[starts[at] : ends[at]].sum()
    sums[there & (starts == ends)] = 0.0
    return sums
