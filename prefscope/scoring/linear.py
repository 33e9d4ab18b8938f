"""Float32 matrix products on x86 CPUs by oneDNN instead of PyTorch's default, MKL.

MKL runs a slower code path on processors of other vendors: on an AMD EPYC with AVX-512, oneDNN reached 200 GFLOP/s and
MKL 140 (tests/benchmarks/README.md). Both compute full float32 products.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class OneDnnLinear(TorchFunctionMode):
    """A context in which linear layers on float32 CPU tensors are computed by oneDNN."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a torch function, replacing linear layers."""
        if func is functional.linear and not kwargs and _is_plain(args[0], args[1]):
            values, weight, bias = (*args, None)[:3]
            return torch.ops.mkldnn._linear_pointwise(values, weight, bias, "none", [], "")  # noqa: SLF001
        return func(*args, **(kwargs or {}))


def _is_plain(values: Tensor, weight: Tensor) -> bool:
    return (
        values.dtype is torch.float32
        and weight.dtype is torch.float32
        and values.device.type == "cpu"
        and weight.device.type == "cpu"
        and values.numel() > 0
    )


def matrix_products(device: torch.device, dtype: str) -> tuple[str, AbstractContextManager[Any]]:
    """Return the name of the fastest library for linear layers here, and a context that uses it."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    if x86 and device.type == "cpu" and dtype == "float32" and torch._C._has_mkldnn:  # noqa: SLF001
        return "onednn", OneDnnLinear()
    return "torch", nullcontext()
