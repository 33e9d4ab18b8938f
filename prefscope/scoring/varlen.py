"""Attention over a packed row by variable-length flash attention: a few launches per layer for any number of segments.

First, every segment attends to itself. Then, level by level of the tree, the descendants of a level's segments attend
to the keys of those segments, and the results are combined by their log-sum-exp. For 16-bit tensors on CUDA, if this
version of torch has such a function.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefscope.scoring.packing import PackedRow

NEEDED = {"scale", "window_size", "enable_gqa", "return_aux"}
FIRST_CAPABLE = (8, 0)
WIDEST_HEAD = 256
CAUSAL, FULL = (-1, 0), (-1, -1)


@dataclass(frozen=True, slots=True)
class Level:
    """Queries that attend to keys, segment by segment."""

    queries: Tensor
    """Indices in the row, shape (Q,)."""
    keys: Tensor
    """Indices in the row, shape (K,)."""
    query_starts: Tensor
    """Start of each segment's queries, followed by Q. int32, shape (segments + 1,)."""
    key_starts: Tensor
    longest_query: int
    longest_key: int
    window: tuple[int, int]


def find_varlen(device: torch.device, dtype: torch.dtype, width: int) -> Callable[..., Any] | None:
    """Return torch's variable-length attention, or None if it does not support this device, dtype or width of heads."""
    if device.type != "cuda" or dtype not in (torch.bfloat16, torch.float16) or width > WIDEST_HEAD or width % 8:
        return None
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < FIRST_CAPABLE:
        return None  # on ROCm, log-sum-exps have another layout
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if inspect.signature(varlen_attn).parameters.keys() >= NEEDED else None


def levels_of(row: PackedRow, device: torch.device) -> list[Level]:
    """Return the levels of a row's tree: all segments by themselves, then ancestors, from the roots down."""
    every = [(range(s.start, s.stop), range(s.start, s.stop)) for s in row.segments]
    levels = [_level(every, CAUSAL, device)]
    depths: list[int] = []
    below: dict[int, list[tuple[range, range]]] = {}
    for segment in row.segments:
        depths.append(0 if segment.parent < 0 else depths[segment.parent] + 1)
        if segment.subtree_stop > segment.stop:
            pair = (range(segment.stop, segment.subtree_stop), range(segment.start, segment.stop))
            below.setdefault(depths[-1], []).append(pair)
    return levels + [_level(below[depth], FULL, device) for depth in sorted(below)]


def _level(pairs: list[tuple[range, range]], window: tuple[int, int], device: torch.device) -> Level:
    queries, keys = ([part[side] for part in pairs] for side in (0, 1))
    return Level(
        queries=_indices(queries, device),
        keys=_indices(keys, device),
        query_starts=_starts(queries, device),
        key_starts=_starts(keys, device),
        longest_query=max(map(len, queries)),
        longest_key=max(map(len, keys)),
        window=window,
    )


def _indices(ranges: list[range], device: torch.device) -> Tensor:
    return torch.from_numpy(np.concatenate([np.arange(one.start, one.stop) for one in ranges])).to(device)


def _starts(ranges: list[range], device: torch.device) -> Tensor:
    return torch.from_numpy(np.cumsum([0, *map(len, ranges)]).astype(np.int32)).to(device)


def attend_level(
    varlen: Callable[..., Any], level: Level, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute the attention output of a level's queries, and its log-sum-exp.

    Args:
        varlen: torch's variable-length attention.
        level: Queries and keys.
        query: Shape (T, heads, width).
        key: Shape (T, key heads, width).
        value: Shape (T, key heads, width).
        scale: Scale of the scores.

    Returns:
        Shapes (Q, heads, width) and (Q, heads).
    """
    from torch.nn.attention.varlen import AuxRequest

    options: dict[str, Any] = {"num_splits": 1} if "num_splits" in inspect.signature(varlen).parameters else {}
    output, lse = varlen(
        query[level.queries],
        key[level.keys],
        value[level.keys],
        level.query_starts,
        level.key_starts,
        level.longest_query,
        level.longest_key,
        scale=scale,
        window_size=level.window,
        enable_gqa=query.shape[1] != key.shape[1],
        return_aux=AuxRequest(lse=True),
        **options,
    )
    return output, lse.T if lse.shape[0] == query.shape[1] else lse  # heads come first, contrary to the documentation
