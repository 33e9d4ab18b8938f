"""Attention over a packed row, registered with transformers as a separate implementation.

A model's linear layers see one dense row; here, every segment attends to its ancestors and itself only. The keys of a
segment are read once for all its descendants: causal attention over its keys, for all queries from its first token to
the end of its last descendant, covers both the segment's own triangle and its descendants' full view of it. Each
partial result comes with its log-sum-exp, so that partial results can be combined exactly. No mask of a whole row is
built.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface

from prefscope.errors import PrefscopeError
from prefscope.scoring.blocks import Blocks, attend_by_blocks, blocks_of, wide
from prefscope.scoring.packing import PackedRow, pack
from prefscope.scoring.sequences import TokenSequence
from prefscope.scoring.varlen import MULTIPLE, PathKernel, Paths, attend, find_kernel, paths_of

NAME = "prefscope_packed"
HARMLESS = frozenset({"position_ids", "cache_position", "use_cache", "output_attentions", "output_router_logits"})
"""Keyword arguments that models pass to their attention and that do not affect the result."""
CHECKED_WINDOW, WINDOW_TOLERANCE = 16, 0.05
"""A window to try kernels with, and the largest difference of an output: rounding to 16 bits makes 0.016, one key more
or less makes 0.9."""


class NotPackableError(PrefscopeError):
    """The model needs something of its attention that packing does not support."""


@dataclass(slots=True)
class Attended:
    """The packed row that a model currently attends over."""

    row: PackedRow
    longest: int
    """Tokens of the longest sequence."""
    _paths: dict[tuple[torch.device, int | None], list[Paths]] = field(default_factory=dict)
    _blocks: dict[tuple[torch.device, int | None], list[Blocks]] = field(default_factory=dict)

    @classmethod
    def of(cls, row: PackedRow) -> Attended:
        """Return a row to attend over."""
        return cls(row, max((len(path) for path in row.paths), default=0))

    def prepare_like(self, other: Attended) -> None:
        """Compute what has been needed of another row."""
        for device, window in other._paths:
            self.paths(device, window)
        for device, window in other._blocks:
            self.blocks(device, window)

    def paths(self, device: torch.device, window: int | None) -> list[Paths]:
        """Return the paths of the row's segments on a device; they are computed once."""
        if (device, window) not in self._paths:
            self._paths[device, window] = paths_of(self.row, device, window)
        return self._paths[device, window]

    def blocks(self, device: torch.device, window: int | None) -> list[Blocks]:
        """Return the row's blocks of queries on a device; they are computed once."""
        if (device, window) not in self._blocks:
            self._blocks[device, window] = blocks_of(self.row, device, window)
        return self._blocks[device, window]


_current: ContextVar[Attended | None] = ContextVar("packed_row", default=None)
_windows: ContextVar[set[int | None] | None] = ContextVar("windows", default=None)


@contextmanager
def attending(attended: Attended) -> Iterator[None]:
    """Make the attention of models follow a packed row."""
    token = _current.set(attended)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def watching() -> Iterator[set[int | None]]:
    """Collect the sliding windows that layers pass to their attention; None stands for a layer without one."""
    windows: set[int | None] = set()
    token = _windows.set(windows)
    try:
        yield windows
    finally:
        _windows.reset(token)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    is_causal: bool | None = None,
    **others: object,
) -> tuple[Tensor, None]:
    """Compute attention over a packed row, through transformers' attention interface.

    Args:
        module: The attention layer.
        query: Shape (1, heads, T, width).
        key: Shape (1, key heads, T, width); heads are a multiple of key heads.
        value: Shape (1, key heads, T, value width).
        attention_mask: Must be None; the row determines the mask.
        scaling: Scale of the scores; None for 1/√width.
        dropout: Must be 0.
        sliding_window: Number of tokens that a query sees, including itself.
        softcap: Scores become softcap · tanh(score / softcap).
        s_aux: Attention sinks: one score per head that takes part in the softmax without a value. Shape (heads,).
        is_causal: Must not be False.
        others: Must be None, or known to be harmless.

    Returns:
        Shape (1, T, heads, value width), and None in place of attention weights.

    Raises:
        NotPackableError: If an argument is not supported, or there is no current row.
    """
    current = _current.get()
    asked = {**{name: others[name] for name in others.keys() - HARMLESS}, "attention_mask": attention_mask}
    refused = sorted(name for name, given in asked.items() if given is not None)
    refused += ["dropout"] * bool(dropout)
    refused += ["is_causal=False"] * (is_causal is False or not getattr(module, "is_causal", True))
    if refused or current is None:
        raise NotPackableError(f"The attention of {type(module).__name__} needs {', '.join(refused) or 'no row'}")
    scale = scaling if scaling is not None else 1.0 / math.sqrt(query.shape[-1])
    if (windows := _windows.get()) is not None:
        windows.add(sliding_window)
    if sliding_window is not None and sliding_window >= current.longest:
        sliding_window = None
    width = value.shape[-1]
    if softcap is None and (found := _by_path(current, query, key, value, scale, sliding_window, s_aux)) is not None:
        return found[None, ..., :width].to(query.dtype), None
    if sliding_window is not None or softcap is not None or query.device.type not in KERNELS:
        blocks = current.blocks(query.device, sliding_window)
        return attend_by_blocks(blocks, query[0], key[0], value[0], scale, softcap, s_aux)[None], None
    query, key, value = _widened(max(width, query.shape[-1]), query, key, value)
    output, total = _by_segment(KERNELS[query.device.type], current.row, query, key, value, scale)
    if s_aux is not None:
        output *= _share_beside_sinks(total, s_aux)
    return output[None, ..., :width].to(query.dtype), None


def _widened(width: int, *parts: Tensor) -> list[Tensor]:
    """Return tensors of equal width, as kernels need, padded with zeros, which changes nothing."""
    return [part if part.shape[-1] == width else functional.pad(part, (0, width - part.shape[-1])) for part in parts]


def _share_beside_sinks(total: Tensor, sinks: Tensor) -> Tensor:
    """Return the share of the softmax that sinks leave to the keys, shape (T, heads, 1)."""
    return torch.sigmoid(total - sinks.to(total.dtype)).unsqueeze(-1)


def _by_path(
    current: Attended,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None,
    sinks: Tensor | None,
) -> Tensor | None:
    """Compute attention with one launch for the whole row (varlen.py), or return None if no kernel does it."""
    widest = max(value.shape[-1], query.shape[-1])
    widest += -widest % MULTIPLE
    kernel = find_kernel(query.device, query.dtype, widest, window=window, sums=sinks is not None)
    heads = query.shape[1], key.shape[1]
    if kernel is None or (window is not None and not _keeps_windows(kernel, query.device, query.dtype, heads, widest)):
        return None
    query, key, value = (part[0].transpose(0, 1) for part in _widened(widest, query, key, value))
    output, total = attend(kernel, current.paths(query.device, window), query, key, value, scale)
    if sinks is None:
        return output
    if total is None:
        raise NotPackableError("The attention kernel gives no log-sum-exp to weigh the sinks with")
    return output * _share_beside_sinks(total, sinks).to(output.dtype)


@functools.cache
def _keeps_windows(
    kernel: PathKernel, device: torch.device, dtype: torch.dtype, heads: tuple[int, int], width: int
) -> bool:
    """Return whether a kernel gives the attention of explicit scores within a window, and in no wider or narrower one.

    The self-check cannot tell, because its probes are shorter than the windows of most models.
    """
    prompt, ends = range(40), (range(100, 124), range(200, 209))
    row = pack([TokenSequence(np.array([*prompt, *end], dtype=np.int32), len(prompt)) for end in ends])
    current, generator = Attended.of(row), torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn((1, number, len(row.token_ids), width), generator=generator).to(device, dtype)
        for number in (heads[0], heads[1], heads[1])
    )
    scale, paths = 1.0 / math.sqrt(width), current.paths(device, CHECKED_WINDOW)
    queries, keys, values = (part[0].transpose(0, 1) for part in (query, key, value))
    ours, _ = attend(kernel, paths, queries, keys, values, scale)
    blocks = current.blocks(device, CHECKED_WINDOW)
    expected = attend_by_blocks(blocks, query[0], key[0], value[0], scale, None, None)
    return bool((ours.float() - expected.float()).abs().max() <= WINDOW_TOLERANCE)


AttentionInterface.register(NAME, packed_attention)

Kernel = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]
"""Causal attention of N queries over M ≤ N keys, where query i attends to keys 0 to i, and its log-sum-exp.

Takes (1, heads, N, width), (1, key heads, M, width) twice and the scale.
Returns (1, heads, N, width) and (1, heads, N)."""


def _cpu_kernel(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Use PyTorch's flash kernel for CPUs, which supports fewer key heads than heads."""
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001
    found: tuple[Tensor, Tensor] = flash(query, key, value, dropout_p=0.0, is_causal=True, scale=scale)
    return found


KERNELS: dict[str, Kernel] = {"cpu": _cpu_kernel}
"""Kernels for one segment at a time, by type of device; where there is none, scores are computed block by block."""


def _by_segment(
    kernel: Kernel, row: PackedRow, query: Tensor, key: Tensor, value: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Compute attention segment by segment, each segment's keys for itself and its descendants at once.

    Returns:
        Output and log-sum-exp, of shapes (T, heads, width) and (T, heads).
    """
    _, heads, tokens, width = query.shape
    output = torch.empty((tokens, heads, width), dtype=wide(query.dtype), device=query.device)
    total = torch.empty((tokens, heads), dtype=output.dtype, device=query.device)
    for segment in row.segments:
        own, below = slice(segment.start, segment.stop), slice(segment.start, segment.subtree_stop)
        part, lse = kernel(query[:, :, below], key[:, :, own], value[:, :, own], scale)
        part, lse = part[0].transpose(0, 1), lse[0].transpose(0, 1)
        if segment.parent < 0:
            output[below], total[below] = part, lse
        else:
            _join(output[below], total[below], part, lse)
    return output, total


def _join(output: Tensor, total: Tensor, part: Tensor, lse: Tensor) -> None:
    """Combine, in place, attention over some keys with attention of the same queries over other keys.

    Shapes are (N, heads, width) and (N, heads), each twice.
    """
    weight = torch.sigmoid(lse.to(total.dtype) - total).unsqueeze(-1)
    output.lerp_(part.to(output.dtype), weight)
    torch.logaddexp(total, lse.to(total.dtype), out=total)
