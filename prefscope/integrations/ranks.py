"""Shares the scoring of a sample among the ranks of a distributed training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.distributed

Key = TypeVar("Key")
Value = TypeVar("Value")


def gather(compute: Callable[[int, int], dict[Key, Value]]) -> dict[Key, Value]:
    """Return what all ranks compute of a task, merged, on every rank; without ranks, that of this process.

    Args:
        compute: Returns the share of a rank, given its number and the number of ranks. It must be called on all ranks.

    Raises:
        RuntimeError: A rank failed; every rank raises its own error or this one, so that none waits for another.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return compute(0, 1)
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    failure: Exception | None = None
    try:
        own: dict[Key, Value] | None = compute(rank, ranks)
    except Exception as error:  # noqa: BLE001 (raised below, once the other ranks know)
        own, failure = None, error
    shares: list[dict[Key, Value] | None] = [None] * ranks
    torch.distributed.all_gather_object(shares, own)
    if failure is not None:
        raise failure
    found: dict[Key, Value] = {}
    for number, share in enumerate(shares):
        if share is None:
            raise RuntimeError(f"rank {number} could not score its share of the pairs")
        found |= share
    return found
