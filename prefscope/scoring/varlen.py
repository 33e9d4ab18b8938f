"""Attention over a packed row on CUDA: one launch per layer for any number of segments.

The queries of a segment attend to its path: the gathered tokens of its ancestors, and its own. Kernels for sequences
of varying length align the causal mask at the end of the keys, so query i of a segment with n tokens before it sees the
first n + i + 1 tokens of its path, which is what it should see; a sliding window counts back from there. Nothing is
joined afterwards. Operators are called by their schema, as torch's own functions for them differ between releases.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefscope.scoring.copies import uploaded
from prefscope.scoring.packing import PackedRow

FIRST_CAPABLE = (8, 0)
WIDEST_HEAD = 256
MULTIPLE = 8
"""Heads must be a multiple of this wide; narrower ones are padded with zeros, which changes nothing."""
MOST_COPIES = 6
"""Keys that are gathered at once, as a multiple of the row's tokens; paths that share much take several launches."""
FROM_BOTTOM_RIGHT = 2
"""The memory-efficient operator's number for a causal mask that is aligned at the last query and the last key."""
FLASH_NEEDS = {"cum_seq_q", "cum_seq_k", "max_q", "max_k", "scale", "window_size_left", "window_size_right"}
EFFICIENT_NEEDS = {"cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k", "custom_mask_type", "scale"}


@dataclass(frozen=True, slots=True)
class Paths:
    """Some consecutive segments of a row with the keys that each of them sees."""

    queries: slice
    """Of the row."""
    keys: Tensor
    """Indices in the row, segment by segment. int32, shape (K,)."""
    query_starts: Tensor
    """Start of each segment's queries, followed by their number. int32, shape (segments + 1,)."""
    key_starts: Tensor
    longest_query: int
    longest_key: int
    window: int | None
    """Number of tokens that a query sees, including itself."""


PathKernel = Callable[[Paths, Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor | None]]
"""Takes paths, queries (Q, heads, width), keys and values (K, key heads, width), and the scale.
Returns the output (Q, heads, width), and the log-sum-exp (Q, heads) if the kernel has it in that form."""


def find_kernel(
    device: torch.device, dtype: torch.dtype, width: int, *, window: int | None, sums: bool
) -> PathKernel | None:
    """Return a kernel for paths, or None if there is none for this device, dtype and width of heads.

    Args:
        device: The device.
        dtype: Of queries, keys and values.
        width: Of a head, a multiple of `MULTIPLE`.
        window: The sliding window, if any.
        sums: Whether the log-sum-exp is needed.
    """
    if device.type != "cuda" or torch.version.hip is not None or width % MULTIPLE:
        return None  # on ROCm, log-sum-exps have another layout
    if torch.cuda.get_device_capability(device) < FIRST_CAPABLE:
        return None
    if dtype in (torch.bfloat16, torch.float16):
        return _flash if width <= WIDEST_HEAD and _arguments("_flash_attention_forward") >= FLASH_NEEDS else None
    if dtype == torch.float32 and window is None and not sums:
        return _efficient if _arguments("_efficient_attention_forward") >= EFFICIENT_NEEDS else None
    return None


@functools.cache
def _arguments(operator: str) -> frozenset[str]:
    found: Any = getattr(torch.ops.aten, operator, None)
    return frozenset(() if found is None else (one.name for one in found.default._schema.arguments))  # noqa: SLF001


def paths_of(row: PackedRow, device: torch.device, window: int | None) -> list[Paths]:
    """Return the paths of a row's segments, in pieces of at most `MOST_COPIES` times the row's tokens."""
    seen: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    before: list[np.ndarray[Any, np.dtype[np.int64]]] = []
    for segment in row.segments:
        own = np.arange(segment.start, segment.stop)
        ancestors = before[segment.parent] if segment.parent >= 0 else own[:0]
        before.append(np.concatenate([ancestors, own]))
        visible = ancestors if window is None else ancestors[max(len(ancestors) - (window - 1), 0) :]
        seen.append(np.concatenate([visible, own]))
    sizes = [len(keys) for keys in seen]
    return [_piece(row, first, stop, seen, device, window) for first, stop in _cuts(sizes, len(row.token_ids))]


def _cuts(sizes: list[int], tokens: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of segments whose paths together have at most `MOST_COPIES` times the row's tokens."""
    first, total = 0, 0
    for number, size in enumerate(sizes):
        if total and total + size > MOST_COPIES * tokens:
            yield first, number
            first, total = number, 0
        total += size
    yield first, len(sizes)


def _piece(
    row: PackedRow,
    first: int,
    stop: int,
    seen: list[np.ndarray[Any, np.dtype[np.int64]]],
    device: torch.device,
    window: int | None,
) -> Paths:
    segments, keys = row.segments[first:stop], np.concatenate(seen[first:stop])
    queries, sizes = [segment.stop - segment.start for segment in segments], [len(one) for one in seen[first:stop]]
    parts = [keys, *(np.cumsum([0, *counts]) for counts in (queries, sizes))]
    keys_there, query_starts, key_starts = uploaded([part.astype(np.int32) for part in parts], device)
    return Paths(
        queries=slice(segments[0].start, segments[-1].stop),
        keys=keys_there,
        query_starts=query_starts,
        key_starts=key_starts,
        longest_query=max(queries),
        longest_key=max(sizes),
        window=window,
    )


def attend(
    kernel: PathKernel, pieces: list[Paths], query: Tensor, key: Tensor, value: Tensor, scale: float
) -> tuple[Tensor, Tensor | None]:
    """Compute attention over a packed row.

    Args:
        kernel: From `find_kernel`.
        pieces: From `paths_of`.
        query: Shape (T, heads, width).
        key: Shape (T, key heads, width).
        value: Shape (T, key heads, width).
        scale: Scale of the scores.

    Returns:
        Output and log-sum-exp, of shapes (T, heads, width) and (T, heads); None for sums that the kernel does not give.
    """
    found = [
        kernel(piece, query[piece.queries], key.index_select(0, piece.keys), value.index_select(0, piece.keys), scale)
        for piece in pieces
    ]
    if len(found) == 1:
        return found[0]
    sums = [one for _, one in found if one is not None]
    return torch.cat([output for output, _ in found]), torch.cat(sums) if sums else None


def _flash(paths: Paths, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Use FlashAttention, which takes fewer key heads than heads as they are."""
    options: dict[str, Any] = {"num_splits": 1} if "num_splits" in _arguments("_flash_attention_forward") else {}
    output, lse, *_ = torch.ops.aten._flash_attention_forward(  # noqa: SLF001
        query,
        key,
        value,
        paths.query_starts,
        paths.key_starts,
        paths.longest_query,
        paths.longest_key,
        0.0,
        paths.window is None,
        False,  # noqa: FBT003 (no mask of dropout is returned; the operator takes no names here)
        scale=scale,
        window_size_left=-1 if paths.window is None else paths.window - 1,
        window_size_right=0,
        **options,
    )
    return output, lse.reshape(query.shape[1], -1).T


def _efficient(paths: Paths, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, None]:
    """Use the memory-efficient operator, which supports float32 and needs as many key heads as heads."""
    group = query.shape[1] // key.shape[1]
    output, *_ = torch.ops.aten._efficient_attention_forward(  # noqa: SLF001
        query[None],
        key.repeat_interleave(group, dim=1)[None],
        value.repeat_interleave(group, dim=1)[None],
        None,
        paths.query_starts,
        paths.key_starts,
        paths.longest_query,
        paths.longest_key,
        0.0,
        FROM_BOTTOM_RIGHT,
        False,  # noqa: FBT003 (no log-sum-exp; the operator takes no names here)
        scale=scale,
    )
    return output[0], None
