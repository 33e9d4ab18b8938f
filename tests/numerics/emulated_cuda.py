"""CUDA's attention operators, computed on the CPU under their own names, with their checks and their conventions.

They follow torch 2.13's flash_api.cpp and attention.cu. Both trust the longest query and key that they are given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

ALIGNED = 8
WIDEST = 256
FROM_BOTTOM_RIGHT = 2
SIXTEEN_BITS = (torch.bfloat16, torch.float16)


def flash(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cum_seq_q: Tensor,
    cum_seq_k: Tensor,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    seqused_k: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
    block_table: Tensor | None = None,
    num_splits: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute `aten::_flash_attention_forward`; its log-sum-exp has heads first."""
    assert query.dtype in SIXTEEN_BITS
    assert query.dtype == key.dtype == value.dtype
    assert query.shape[-1] % ALIGNED == 0
    assert query.shape[-1] == key.shape[-1] == value.shape[-1] <= WIDEST
    assert (dropout_p, return_debug_mask, seqused_k, alibi_slopes, block_table) == (0.0, False, None, None, None)
    assert num_splits in {1, None}  # None on releases of torch that do not have it
    _check(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k)
    left = -1 if window_size_left is None or window_size_left >= max_k else window_size_left
    right = 0 if is_causal and max_q > 1 else -1 if window_size_right is None else window_size_right
    output, lse = torch.empty_like(query), torch.empty((query.shape[1], len(query)))
    for queries, keys in _sequences(cum_seq_q, cum_seq_k):
        part, sums = _attention(query[queries], key[keys], value[keys], scale, left, right)
        output[queries], lse[:, queries] = part.to(query.dtype), sums.float()
    nothing = torch.zeros((), dtype=torch.uint64)
    return output, lse, torch.zeros(2, dtype=torch.uint64), nothing, torch.empty(0)


def efficient(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    custom_mask_type: int,
    compute_log_sumexp: bool = False,
    *,
    scale: float | None = None,
    seqlen_k: Tensor | None = None,
    window_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, int, int]:
    """Compute `aten::_efficient_attention_forward`, which needs as many key heads as heads."""
    assert query.dtype == key.dtype == value.dtype == torch.float32
    assert len(query) == len(key) == len(value) == 1
    assert query.shape[2] == key.shape[2] == value.shape[2]
    assert query.shape[-1] % 4 == key.shape[-1] % 4 == value.shape[-1] % 4 == 0
    assert (bias, dropout_p, custom_mask_type, compute_log_sumexp) == (None, 0.0, FROM_BOTTOM_RIGHT, False)
    assert (seqlen_k, window_size) == (None, None)
    query, key, value = query[0], key[0], value[0]
    _check(query, key, value, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    output = torch.empty_like(query)
    for queries, keys in _sequences(cu_seqlens_q, cu_seqlens_k):
        output[queries] = _attention(query[queries], key[keys], value[keys], scale, -1, 0)[0].to(query.dtype)
    nothing = torch.zeros((), dtype=torch.int64)
    return output[None], torch.empty(0), nothing, nothing, max_seqlen_q, max_seqlen_k


def _check(
    query: Tensor, key: Tensor, value: Tensor, query_starts: Tensor, key_starts: Tensor, max_q: int, max_k: int
) -> None:
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    for starts, tokens, longest in ((query_starts, len(query), max_q), (key_starts, len(key), max_k)):
        assert starts.dtype == torch.int32
        assert starts.is_contiguous()
        assert (int(starts[0]), int(starts[-1])) == (0, tokens)
        assert int(starts.diff().max()) == longest
    assert len(key) == len(value)


def _sequences(query_starts: Tensor, key_starts: Tensor) -> Iterator[tuple[slice, slice]]:
    for number in range(len(query_starts) - 1):
        yield (
            slice(int(query_starts[number]), int(query_starts[number + 1])),
            slice(int(key_starts[number]), int(key_starts[number + 1])),
        )


def _attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None, left: int, right: int
) -> tuple[Tensor, Tensor]:
    """Compute in float64, with a mask that is aligned at the last query and the last key; −1 is no bound."""
    group = query.shape[1] // key.shape[1]
    keys, values = (part.double().repeat_interleave(group, 1) for part in (key, value))
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = torch.einsum("qhd,khd->hqk", query.double(), keys) * factor
    behind = torch.arange(len(key) - len(query), len(key))[:, None] - torch.arange(len(key))
    hidden = torch.zeros_like(behind, dtype=torch.bool)
    hidden |= (behind < -right) if right >= 0 else hidden
    hidden |= (behind > left) if left >= 0 else hidden
    scores = scores.masked_fill(hidden, -math.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), values), scores.logsumexp(-1)


@contextmanager
def emulated_operators() -> Iterator[None]:
    """Let CUDA's attention operators take tensors on the CPU."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    library.impl("_flash_attention_forward", flash, "CPU")  # type: ignore[no-untyped-call]
    library.impl("_efficient_attention_forward", efficient, "CPU")  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        library._destroy()  # type: ignore[no-untyped-call]
