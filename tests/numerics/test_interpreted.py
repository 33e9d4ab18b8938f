"""Triton's kernels: interpreted on the CPU they are right, and they compile for GPUs; these tests need `.[cuda]`."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parents[1]
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("triton", "liger_kernel"))), reason="triton or liger-kernel is missing"
    ),
]


def test_interpreted_kernels_compute_what_models_do() -> None:
    command = [sys.executable, "-m", "pytest", "-n", "0", "interpreted"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("element", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("capability", [80, 90, 100])
def test_the_kernel_of_log_probs_compiles_for_gpus(capability: int, element: str, squares: bool) -> None:
    import triton
    from triton.backends.compiler import GPUTarget

    from prefscope.scoring.fused_logps import BLOCK, WARPS, logps_kernel

    signature = {
        "logits": f"*{element}",
        "token_ids": "*i64",
        "found": "*fp32",
        **dict.fromkeys(("vocabulary", "row_stride"), "i32"),
        **dict.fromkeys(("SQUARES", "BLOCK"), "constexpr"),
    }
    source = triton.compiler.ASTSource(logps_kernel, signature, {"SQUARES": squares, "BLOCK": BLOCK})
    found: Any = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": WARPS})
    assert found.asm["cubin"]
