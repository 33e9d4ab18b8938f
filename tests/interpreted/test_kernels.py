"""Interpreted, every fused kernel computes what the model's own code does."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb
from transformers.models.olmo2.modeling_olmo2 import Olmo2RMSNorm

from tests.interpreted import triton_interpreter  # isort: skip  # before any kernel

from prefscope.scoring.fused_kernels import Kernels, installed_kernels
from prefscope.scoring.fused_parts import MANY_ROWS
from prefscope.scoring.head import Measure
from prefscope.scoring.logps import token_logps, token_logps_and_collisions

assert triton_interpreter
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    found = installed_kernels()
    assert found is not None
    return found


def normal(*shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def assert_within_a_rounding(found: Tensor, expected: Tensor) -> None:
    assert found.dtype == expected.dtype
    eps = max(torch.finfo(expected.dtype).eps, 2e-6)
    torch.testing.assert_close(found.double(), expected.double(), rtol=eps, atol=eps)


@pytest.mark.parametrize("measure", [token_logps, token_logps_and_collisions])
@pytest.mark.parametrize("vocabulary", [3, 100, 4096, 9001])
@dtypes
def test_log_probs_of_tokens(kernels: Kernels, measure: Measure, vocabulary: int, dtype: torch.dtype) -> None:
    logits = normal(7, vocabulary, scale=4).to(dtype)
    token_ids = torch.arange(7) % vocabulary
    torch.testing.assert_close(
        kernels.measures[measure](logits, token_ids), measure(logits, token_ids), rtol=2e-6, atol=1e-5
    )


def hard_logits() -> Tensor:
    logits = normal(9, 9001, scale=4)
    logits[0] = -math.inf
    logits[1, 50:] = -math.inf
    logits[2, :6000] = -math.inf  # more than a block
    logits[3, 8000] = math.nan
    logits[4, 7], logits[5, 8000] = math.inf, math.inf
    logits[6, 8000] = -math.inf
    logits[7] = 0
    logits[7, 3] = 80
    logits[8] = -20
    return logits


@pytest.mark.parametrize("measure", [token_logps, token_logps_and_collisions])
@dtypes
def test_log_probs_of_tokens_among_infinite_nan_and_large_logits(
    kernels: Kernels, measure: Measure, dtype: torch.dtype
) -> None:
    logits, token_ids = hard_logits().to(dtype), torch.tensor([5, 5, 8000, 5, 5, 8000, 8000, 3, 5])
    expected = measure(logits, token_ids)
    assert expected.isnan().any()
    assert expected.isinf().any()
    found = kernels.measures[measure](logits, token_ids)
    torch.testing.assert_close(found, expected, rtol=2e-6, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("measure", [token_logps, token_logps_and_collisions])
def test_log_probs_of_logits_in_any_layout(kernels: Kernels, measure: Measure) -> None:
    logits, token_ids = normal(4, 600), torch.arange(8)[::2]
    for view in (logits[:, :500], logits[:, ::2], logits.T.contiguous().T):
        torch.testing.assert_close(kernels.measures[measure](view, token_ids), measure(view, token_ids))
    double = logits.double()
    torch.testing.assert_close(kernels.measures[measure](double, token_ids), measure(double, token_ids), rtol=0, atol=0)


NORMS: list[tuple[type[nn.Module], float, str]] = [
    (LlamaRMSNorm, 0.0, "llama"),
    (Olmo2RMSNorm, 0.0, "gemma"),
    (Gemma3RMSNorm, 1.0, "gemma"),
]


@pytest.mark.parametrize(("norm", "offset", "casting"), NORMS, ids=lambda value: getattr(value, "__name__", None))
@dtypes
def test_norms(kernels: Kernels, norm: type[nn.Module], offset: float, casting: str, dtype: torch.dtype) -> None:
    plain: Any = norm(96, eps=1e-5).to(dtype)
    plain.weight.data.copy_(normal(96))
    values = (normal(2, 3, 96) * torch.tensor([1e-3, 1.0, 30.0])[:, None]).to(dtype)
    assert kernels.rms_norm is not None
    with torch.inference_mode():
        assert_within_a_rounding(kernels.rms_norm(values, plain.weight, 1e-5, offset, casting), plain(values))


def test_norms_of_many_heads(kernels: Kernels) -> None:
    plain = LlamaRMSNorm(8, eps=1e-5).bfloat16()
    plain.weight.data.copy_(normal(8))
    values = normal(MANY_ROWS, 8).bfloat16()
    assert kernels.rms_norm is not None
    with torch.inference_mode():
        assert_within_a_rounding(kernels.rms_norm(values, plain.weight, 1e-5, 0.0, "llama"), plain(values))


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
@dtypes
def test_gated_activations(kernels: Kernels, activation: str, dtype: torch.dtype) -> None:
    gate, up = normal(2, 5, 160, scale=3).to(dtype).chunk(2, -1)
    plain = functional.silu(gate) if activation == "silu" else functional.gelu(gate, approximate="tanh")
    with torch.inference_mode():
        assert_within_a_rounding(kernels.gates[activation](gate, up), plain * up)


@dtypes
def test_rotary_positions(kernels: Kernels, dtype: torch.dtype) -> None:
    query, key = normal(1, 6, 11, 24).to(dtype), normal(1, 2, 11, 24, scale=2).to(dtype)
    angles = normal(1, 11, 12, scale=9).repeat(1, 1, 2)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    expected = apply_rotary_pos_emb(query, key, cos, sin)
    assert kernels.rotary is not None
    with torch.inference_mode():
        found = kernels.rotary(query.clone(), key.clone(), cos, sin)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=4 * torch.finfo(dtype).eps)
