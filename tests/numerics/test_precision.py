"""Forward passes compute in full precision, whatever the process is set to, and leave its settings as they were."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from prefscope.scoring.engine import forward
from tests.numerics.families import PACKED, as_loaded, random_model, related_sequences

PRODUCTS: Any = torch.backends.cuda.matmul
CONVOLUTIONS: Any = torch.backends.cudnn.conv  # type: ignore[attr-defined]
ON_CPU: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
FULL = ["ieee", "ieee", "ieee", False, False]


def settings() -> list[object]:
    return [
        PRODUCTS.fp32_precision,
        CONVOLUTIONS.fp32_precision,
        ON_CPU.fp32_precision,
        PRODUCTS.allow_bf16_reduced_precision_reduction,
        PRODUCTS.allow_fp16_reduced_precision_reduction,
    ]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    before, convolutions = torch.get_float32_matmul_precision(), CONVOLUTIONS.fp32_precision
    yield
    torch.set_float32_matmul_precision(before)
    CONVOLUTIONS.fp32_precision = convolutions


def set_new_interface() -> None:
    PRODUCTS.fp32_precision = "tf32"


@pytest.mark.parametrize(
    "choose",
    [
        lambda: None,
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: torch.set_float32_matmul_precision("medium"),
        set_new_interface,
    ],
    ids=["nothing", "high", "medium", "new interface"],
)
def test_a_forward_pass_computes_in_full_precision_and_restores_the_settings(choose: Callable[[], None]) -> None:
    module = random_model(PACKED["llama, tied head"])
    seen: list[list[object]] = []

    def look(_module: nn.Module, _args: object) -> None:
        seen.append(settings())

    choose()
    before = settings()
    module.get_input_embeddings().register_forward_pre_hook(look)
    forward(as_loaded(module), "padded", related_sequences())
    assert seen == [FULL]
    assert settings() == before


@pytest.mark.slow
def test_the_override_of_nvidias_containers_has_no_effect() -> None:
    code = (
        "import torch; from prefscope.scoring.precision import full_precision\n"
        "with full_precision(): print(torch.get_float32_matmul_precision())\n"
        "print(torch.get_float32_matmul_precision())"
    )
    environment = os.environ | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["highest", "high"]
