"""Which sequences go into which batch.

Planning is pure arithmetic on lengths: a seeded random sample first, so that early figures are right within bounds,
then the longest first, so that memory trouble and over-long estimates show at once. This module imports no torch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_PAIRS = 256


def first_occurrences(digests: NDArray[np.void]) -> NDArray[np.int64]:
    """Return the positions at which a sequence occurs for the first time, ascending.

    Args:
        digests: One fixed-size digest a sequence. Shape (sequences,).
    """
    return np.sort(np.unique(digests, return_index=True)[1]).astype(np.int64)


def plan_order(lengths: NDArray[np.int64], pairs: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return the order in which sequences are scored: those of a random sample of pairs, then the rest, longest first.

    Args:
        lengths: Tokens of each sequence. Shape (sequences,).
        pairs: The pair that each sequence belongs to. Shape (sequences,).
        seed: Chooses the sample.

    Returns:
        A permutation of the sequences; equal lengths keep their order. Shape (sequences,).
    """
    distinct = np.unique(pairs)
    sample = np.random.default_rng(seed).permutation(distinct)[:SAMPLE_PAIRS]
    later = ~np.isin(pairs, sample)
    return np.lexsort((-lengths, later)).astype(np.int64)


def pad_batches(lengths: NDArray[np.int64], batch_tokens: int) -> NDArray[np.int64]:
    """Return the batch number of each sequence, in the order given, for a padded forward pass.

    A batch is closed before its rows times its longest row would exceed the budget; a sequence longer than the budget
    is a batch by itself.

    Args:
        lengths: Tokens of each sequence. Shape (sequences,).
        batch_tokens: The budget, padding included.
    """
    batches = np.empty(len(lengths), dtype=np.int64)
    batch = rows = longest = 0
    for i, length in enumerate(lengths.tolist()):
        if rows and (rows + 1) * max(longest, length) > batch_tokens:
            batch, rows, longest = batch + 1, 0, 0
        rows, longest = rows + 1, max(longest, length)
        batches[i] = batch
    return batches
