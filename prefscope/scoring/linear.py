"""Matrix products in float32 on x86 CPUs by oneDNN, which PyTorch leaves to MKL; and how many of its kernels are kept.

MKL runs a slower code path on processors of other makers: on an AMD EPYC with AVX-512, oneDNN did 200 GFLOP/s where
MKL did 140 (tests/benchmarks/README.md). The numbers are full float32 products either way.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# oneDNN, and PyTorch once more, keep 1,024 kernels of a megabyte or two, some for every size that a batch ever had. A
# batch needs some ten, the same in each layer. Both read this at their first product.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "24")
os.environ.setdefault("LRU_CACHE_CAPACITY", "24")


class OneDnnLinear(TorchFunctionMode):
    """While active, linear layers on float32 tensors of the CPU are computed by oneDNN."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run one torch function."""
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
    """Return the name of what computes linear layers best here, and a context in which it does."""
    x86 = platform.machine().lower() in {"x86_64", "amd64"}
    if x86 and device.type == "cpu" and dtype == "float32" and torch._C._has_mkldnn:  # noqa: SLF001
        return "onednn", OneDnnLinear()
    return "torch", nullcontext()
