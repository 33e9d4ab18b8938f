"""Log-probs of tokens in one pass over the logits, as a Triton kernel; needs the package triton.

Liger's fused linear cross-entropy is not used. It multiplies by the weight of the head itself, which leaves out what
model families do to their logits (scales, masks, adapters, quantized heads); it waits for the device in every call; a
block of scores that are all −∞ makes its sums NaN; and it has no log Σ p².
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from prefscope.scoring.head import Measure
from prefscope.scoring.logps import token_logps, token_logps_and_collisions

BLOCK = 4096
"""Scores that a program reads at once."""
WARPS = 8


@triton.jit  # type: ignore[untyped-decorator]
def logps_kernel(  # type: ignore[no-untyped-def]  # noqa: ANN201 (compiled, not called)
    logits,  # noqa: ANN001
    token_ids,  # noqa: ANN001
    found,  # noqa: ANN001
    vocabulary,  # noqa: ANN001
    row_stride,  # noqa: ANN001
    SQUARES: tl.constexpr,  # noqa: N803 (Triton's convention for compile-time values)
    BLOCK: tl.constexpr,  # noqa: N803
):
    """Compute one row: its token's log-prob, then, if `SQUARES`, log Σ p²; sums are in float32."""
    row = tl.program_id(0).to(tl.int64)
    scores = logits + row * row_stride
    largest = tl.full((), float("-inf"), tl.float32)
    totals = tl.zeros((BLOCK,), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, vocabulary, BLOCK):
        places = start + tl.arange(0, BLOCK)
        some = tl.load(scores + places, mask=places < vocabulary, other=float("-inf")).to(tl.float32)
        larger = tl.maximum(largest, tl.max(some, 0))
        shift = tl.where(larger == float("-inf"), 0.0, larger)  # −∞ − −∞ would be NaN
        faded = tl.exp(largest - shift)
        weights = tl.exp(some - shift)
        totals = totals * faded + weights
        if SQUARES:
            squares = squares * (faded * faded) + weights * weights
        largest = larger
    total = tl.log(tl.sum(totals, 0))
    taken = tl.load(scores + tl.load(token_ids + row)).to(tl.float32)
    if SQUARES:
        tl.store(found + 2 * row, taken - largest - total)
        tl.store(found + 2 * row + 1, tl.log(tl.sum(squares, 0)) - 2 * total)
    else:
        tl.store(found + row, taken - largest - total)


def fused_token_logps(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Compute the result of `token_logps`."""
    return _measured(logits, token_ids, squares=False)


def fused_token_logps_and_collisions(logits: Tensor, token_ids: Tensor) -> Tensor:
    """Compute the result of `token_logps_and_collisions`."""
    return _measured(logits, token_ids, squares=True)


def _measured(logits: Tensor, token_ids: Tensor, *, squares: bool) -> Tensor:
    if logits.dtype == torch.float64:  # whose sums are kept in float64
        return (token_logps_and_collisions if squares else token_logps)(logits, token_ids)
    if logits.stride(-1) != 1:
        logits = logits.contiguous()
    rows, vocabulary = logits.shape
    found = torch.empty((rows, 2) if squares else (rows,), dtype=torch.float32, device=logits.device)
    kernel: Any = logps_kernel[rows,]
    block = min(BLOCK, triton.next_power_of_2(vocabulary))
    with torch.cuda.device_of(logits):  # type: ignore[no-untyped-call]
        kernel(
            logits,
            token_ids.contiguous(),
            found,
            vocabulary,
            logits.stride(0),
            SQUARES=squares,
            BLOCK=block,
            num_warps=WARPS,
        )
    return found


FUSED: Mapping[Measure, Measure] = {
    token_logps: fused_token_logps,
    token_logps_and_collisions: fused_token_logps_and_collisions,
}
"""For each function in logps.py, its fused counterpart."""
