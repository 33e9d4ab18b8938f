"""Attention over a packed row with explicit scores: for soft caps, and for whatever no kernel of the device takes.

Queries are computed in blocks, each with the keys that at least one of them sees. A CPU takes one block after another,
so that its scores stay in the cache. Other devices take blocks of about the same size together, as each launch costs
them more than some filling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prefscope.scoring.copies import uploaded
from prefscope.scoring.packing import Ints, PackedRow, Segment

QUERY_BLOCK = 256
"""Queries of a block."""
PAIRS_AT_ONCE = 1 << 20
"""Queries times keys of the blocks that are computed together, for each head: a block of 256 with 4,096 keys."""
MOST_FILLING = 2
"""Blocks are only computed together if filling them up to the same size makes them at most this much larger,"""
FEW_PAIRS = 1 << 16
"""or if they have at most so many queries times keys, which take no longer than the launches of another group."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """B blocks of Q consecutive queries with K keys, filled up to the same size with the last of their own."""

    queries: Tensor
    """Indices in the row, shape (B · Q,)."""
    keys: Tensor
    """Indices in the row, shape (B · K,)."""
    mask: Tensor
    """Whether each query sees each key. Shape (B, Q, K)."""
    places: Tensor
    """Where among the queries those are that are not filling. Shape (queries of the blocks,)."""
    owned: Tensor
    """Their indices in the row. Shape (queries of the blocks,)."""


@dataclass(frozen=True, slots=True)
class _Block:
    queries: Ints
    keys: Ints

    @property
    def size(self) -> tuple[int, int]:
        """Numbers of queries, rounded up to a power of two, and of keys."""
        return 1 << (len(self.queries) - 1).bit_length(), len(self.keys)


def blocks_of(row: PackedRow, device: torch.device, window: int | None) -> list[Blocks]:
    """Return the blocks of a row on a device, in the groups in which they are computed.

    Args:
        row: The packed row.
        device: The device.
        window: Number of tokens that a query sees, including itself; None for all.
    """
    blocks = [*_single_blocks(row, window)]
    groups = [[block] for block in blocks] if device.type == "cpu" else _groups(blocks)
    return [_together(group, device, window) for group in groups]


def _single_blocks(row: PackedRow, window: int | None) -> Iterator[_Block]:
    for segment in row.segments:
        for start in range(segment.start, segment.stop, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, segment.stop)
            yield _Block(np.arange(start, stop), _seen(row, segment, start, stop, window))


def _seen(row: PackedRow, segment: Segment, start: int, stop: int, window: int | None) -> Ints:
    """Return the indices of the keys that are visible to a segment's queries from `start` to `stop`."""
    parts = [np.arange(segment.start, stop)]
    while segment.parent >= 0:
        segment = row.segments[segment.parent]
        parts.append(np.arange(segment.start, segment.stop))
    seen = np.concatenate(parts[::-1])
    return seen if window is None else seen[-(stop - start + window - 1) :]


def _groups(blocks: list[_Block]) -> list[list[_Block]]:
    """Return blocks of similar size together."""
    groups: list[list[_Block]] = []
    own = 0
    for block in sorted(blocks, key=lambda one: one.size):
        pairs = len(block.queries) * len(block.keys)
        if groups:
            both = [*groups[-1], block]
            filled = len(both) * max(len(one.queries) for one in both) * len(block.keys)
            if filled <= min(PAIRS_AT_ONCE, max(MOST_FILLING * (own + pairs), FEW_PAIRS)):
                groups[-1], own = both, own + pairs
                continue
        groups.append([block])
        own = pairs
    return groups


def _together(blocks: list[_Block], device: torch.device, window: int | None) -> Blocks:
    queries = max(len(block.queries) for block in blocks)
    keys = max(len(block.keys) for block in blocks)
    sizes = [np.array([len(block.queries) for block in blocks]), np.array([len(block.keys) for block in blocks])]
    places = np.concatenate([number * queries + np.arange(size) for number, size in enumerate(sizes[0])])
    parts = [
        np.concatenate([np.pad(block.queries, (0, queries - len(block.queries)), mode="edge") for block in blocks]),
        np.concatenate([np.pad(block.keys, (0, keys - len(block.keys)), mode="edge") for block in blocks]),
        places,
        np.concatenate([block.queries for block in blocks]),
        *sizes,
    ]
    indices, seen, places_there, owned, num_queries, num_keys = uploaded(parts, device)
    # The last query of a block is its last key; so keys that are filling lie behind every query.
    first = (num_keys - num_queries)[:, None] + torch.arange(queries, device=device)
    behind = first[:, :, None] - torch.arange(keys, device=device)
    mask = (behind >= 0) if window is None else (behind >= 0) & (behind < window)
    return Blocks(indices, seen, mask, places_there, owned)


def attend_by_blocks(
    groups: list[Blocks],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Compute attention with explicit scores; supports windows, soft caps and sinks, on every device.

    Args:
        groups: From `blocks_of`.
        query: Shape (heads, T, width).
        key: Shape (key heads, T, width).
        value: Shape (key heads, T, value width).
        scale: Scale of the scores.
        softcap: Scores become softcap · tanh(score / softcap).
        sinks: One score per head that takes part in the softmax without a value. Shape (heads,).

    Returns:
        Shape (T, heads, value width).
    """
    output = torch.empty((query.shape[1], query.shape[0], value.shape[-1]), dtype=query.dtype, device=query.device)
    for blocks in groups:
        found = _attend(blocks, query, key, value, scale, softcap, sinks)
        output.index_copy_(0, blocks.owned, found.transpose(0, 1))
    return output


def _attend(
    blocks: Blocks,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Compute softmax attention of some blocks. Shape (heads, queries that are not filling, value width)."""
    number, queries, keys = blocks.mask.shape
    heads, groups = query.shape[0], key.shape[0]
    grouped = query.index_select(1, blocks.queries).reshape(groups, heads // groups, number, queries, -1)
    seen = key.index_select(1, blocks.keys).reshape(groups * number, keys, -1)
    values = value.index_select(1, blocks.keys).reshape(groups * number, keys, -1)
    shape = (groups, number, heads // groups, queries, keys)
    rows = grouped.transpose(1, 2).reshape(groups * number, -1, query.shape[-1])
    scores = (rows @ seen.transpose(1, 2)).reshape(shape).to(wide(query.dtype)) * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    scores = scores.masked_fill(~blocks.mask[:, None], -math.inf)
    if sinks is not None:
        column = sinks.to(scores.dtype).reshape(groups, 1, heads // groups, 1, 1).expand(*shape[:-1], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = scores.softmax(-1)[..., :keys].to(query.dtype)
    found = (weights.reshape(groups * number, -1, keys) @ values).reshape(*shape[:-1], -1)
    output: Tensor = found.transpose(1, 2).reshape(heads, number * queries, -1)
    return output if len(blocks.places) == number * queries else output.index_select(1, blocks.places)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of scores and sums: float32, unless the numbers are float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32
