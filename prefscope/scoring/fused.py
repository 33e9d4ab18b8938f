"""Fused kernels in place of a model's norms, gated activations, rotary positions and log-probs, on GPUs.

What a kernel may replace is found by trying it (fused_parts.py). Replacements are set on the instances while a forward
pass runs and removed afterwards; no class or module of a library is changed. The self-check runs with the kernels in
force (self_check.py).

A residual sum is not fused with the norm after it: that would replace whole decoder layers, family by family, to save
2 of 20 bytes that norms and sums move per number, which is less than 1% of a forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from prefscope.scoring.fused_kernels import find_kernels
from prefscope.scoring.fused_parts import agreeing_measures, replacements_of
from prefscope.scoring.head import Measure

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Kernels compute in float32, which is not enough for float64."""


@dataclass(frozen=True, slots=True)
class Recognised:
    """What fused kernels replace in a model, in one dtype."""

    kernels: str
    """Names and versions of their packages."""
    replacements: tuple[tuple[nn.Module, Callable[..., Any]], ...]
    """Modules, with what is called instead of their forward methods."""
    measures: Mapping[Measure, Measure]
    """Functions that compute log-probs from logits, with their fused counterparts."""


@dataclass(slots=True)
class Fusion:
    """Whether a model's forward passes use fused kernels, and what these replace."""

    on: bool = False
    _by_dtype: dict[torch.dtype, Recognised] = field(default_factory=dict)

    def recognised(self, module: nn.Module, device: torch.device, dtype: torch.dtype) -> Recognised | None:
        """Return what fused kernels replace in a model, or None if they replace nothing.

        Args:
            module: The model; it is examined once per dtype, as the self-check converts its weights temporarily.
            device: The device of its inputs.
            dtype: The dtype of its weights.
        """
        kernels = find_kernels(device)
        if kernels is None or dtype not in DTYPES:
            return None
        if dtype not in self._by_dtype:
            replacements = tuple(replacements_of(module, kernels, device, dtype))
            measures = agreeing_measures(kernels, device, dtype)
            self._by_dtype[dtype] = Recognised(kernels.name, replacements, measures)
        found = self._by_dtype[dtype]
        return found if found.replacements or found.measures else None


@contextmanager
def fused(
    fusion: Fusion, module: nn.Module, device: torch.device, dtype: torch.dtype
) -> Iterator[Mapping[Measure, Measure]]:
    """Let fused kernels replace what they can in a model, if its fusion is on, and yield the fused measures."""
    found = fusion.recognised(module, device, dtype) if fusion.on else None
    if found is None:
        yield {}
        return
    try:
        for part, forward in found.replacements:
            part.__dict__["forward"] = forward
        yield found.measures
    finally:
        for part, _ in found.replacements:
            part.__dict__.pop("forward", None)
