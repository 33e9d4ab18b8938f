"""The fused kernels that are installed: those of liger-kernel, and the log-probs of fused_logps.py.

Both need Triton, which comes with torch's builds for CUDA. Nothing here decides where a kernel is used (fused.py).
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from prefscope.scoring.head import Measure

TRITON, LIGER = "triton", "liger-kernel"
Gate = Callable[[Tensor, Tensor], Tensor]
"""Takes the gate before its activation, and what it weighs. Returns activation(gate) · weighed."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """Fused kernels; what no package provides is None or missing."""

    name: str
    """Names and versions of their packages."""
    measures: Mapping[Measure, Measure] = field(default_factory=dict)
    """For functions that compute log-probs from logits, their fused counterparts."""
    rms_norm: Callable[[Tensor, Tensor, float, float, str], Tensor] | None = None
    """Takes values, weight, ε, what is added to the weight, and `llama` (the weight multiplies rounded values) or
    `gemma` (rounds once)."""
    gates: Mapping[str, Gate] = field(default_factory=dict)
    """By name of the activation: `silu` or `gelu_tanh`."""
    rotary: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
    """Takes queries, keys, cosines and sines, as `apply_rotary_pos_emb` of Llama; may overwrite queries and keys."""


def find_kernels(device: torch.device) -> Kernels | None:
    """Return the fused kernels for a device, or None if there are none."""
    if device.type != "cuda" or torch.version.hip is not None:
        return None
    return installed_kernels()


def kernel_packages() -> str:
    """Return the names and versions of the installed packages with fused kernels; empty without Triton."""
    if importlib.util.find_spec(TRITON) is None:
        return ""
    found = {one.metadata["Name"]: one.version for one in map(_distribution, (TRITON, LIGER)) if one is not None}
    return ", ".join(f"{name} {version}" for name, version in found.items()) or TRITON


def _distribution(package: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(package)
    except metadata.PackageNotFoundError:  # torch's nightly builds bring Triton under another name
        return None


@functools.cache
def installed_kernels() -> Kernels | None:
    """Return the fused kernels of the installed packages, whatever the device; None without Triton."""
    name = kernel_packages()
    if not name:
        return None
    from prefscope.scoring.fused_logps import FUSED

    try:
        return _with_liger(name, FUSED)
    except Exception:  # noqa: BLE001 (not installed, or made for other releases of torch and Triton)
        return Kernels(name, FUSED)


def _with_liger(name: str, measures: Mapping[Measure, Measure]) -> Kernels:
    from liger_kernel.transformers import functional as liger

    def rms_norm(values: Tensor, weight: Tensor, epsilon: float, offset: float, casting: str) -> Tensor:
        found: Tensor = liger.liger_rms_norm(values, weight, epsilon, offset, casting)
        return found

    gates = {"silu": liger.liger_swiglu, "gelu_tanh": liger.liger_geglu}
    return Kernels(
        name,
        measures,
        _on_device(rms_norm),
        {activation: _on_device(gate) for activation, gate in gates.items()},
        _on_device(liger.liger_rope),
    )


def _on_device(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Launch a kernel on the device of its first argument; Triton would take the current one."""

    def launched(values: Tensor, *others: Any) -> Any:
        with torch.cuda.device_of(values):  # type: ignore[no-untyped-call]
            return kernel(values, *others)

    return launched
