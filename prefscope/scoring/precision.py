"""Full precision, whatever the process is set to: float32 products in float32, 16-bit products summed in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch

FULL = "ieee"


@contextmanager
def full_precision() -> Iterator[None]:
    """Turn off TensorFloat-32, bfloat16 products of float32 and 16-bit sums; restore the settings afterwards.

    A notebook, a training script or NVIDIA's containers (TORCH_ALLOW_TF32_CUBLAS_OVERRIDE) may have turned them on.
    """
    products: Any = torch.backends.cuda.matmul
    by_library: list[Any] = [
        products,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
        torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
    ]
    before = [library.fp32_precision for library in by_library]
    sums = products.allow_bf16_reduced_precision_reduction, products.allow_fp16_reduced_precision_reduction
    overall = None
    with suppress(RuntimeError):  # torch has two interfaces, and cannot read this one if they disagree
        overall = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest")  # in both interfaces
        for library in by_library:
            library.fp32_precision = FULL
        products.allow_bf16_reduced_precision_reduction = products.allow_fp16_reduced_precision_reduction = False
        yield
    finally:
        if overall is not None:
            torch.set_float32_matmul_precision(overall)
        for library, precision in zip(by_library, before, strict=True):
            library.fp32_precision = precision
        products.allow_bf16_reduced_precision_reduction, products.allow_fp16_reduced_precision_reduction = sums
