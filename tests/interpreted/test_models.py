"""Interpreted, whole models with fused kernels compute what they do without, and pass their self-check."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from tests.interpreted import triton_interpreter  # isort: skip  # before any kernel

from prefscope.scoring import fused, fused_parts
from prefscope.scoring.engine import forward
from prefscope.scoring.fused_kernels import installed_kernels
from prefscope.scoring.logps import token_logps, token_logps_and_collisions
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.self_check import check, follow
from tests.numerics.families import PACKED, as_loaded, random_model, related_sequences, token_pool

assert triton_interpreter
FAMILIES = [
    *("llama, tied head", "qwen2", "qwen3", "phi3", "olmo2", "gemma2, soft caps and a window", "mixtral, experts"),
    *("gemma3, a window in one layer", "glm4", "gpt_neox, parallel residual", "gpt2, learnt positions"),
]
CHECKED = [
    ("llama, tied head", torch.float32),
    ("qwen2", torch.bfloat16),
    ("gemma2, soft caps and a window", torch.bfloat16),
]
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "find_kernels", lambda _: installed_kernels())
    monkeypatch.setattr(fused_parts, "MANY_ROWS", 5)  # test_kernels.py has as many as there are


def computed(model: LanguageModel, *, is_fused: bool) -> np.ndarray:
    follow(model, "packed", is_fused=is_fused)
    return np.concatenate(forward(model, "packed", related_sequences()[1:3], token_logps_and_collisions))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_log_probs_with_fused_kernels_are_those_without(family: str, dtype: torch.dtype) -> None:
    model = as_loaded(random_model(PACKED[family], dtype))
    expected = computed(model, is_fused=False)
    exact = expected if dtype == torch.float32 else computed(as_loaded(random_model(PACKED[family])), is_fused=False)
    found = computed(model, is_fused=True)
    limit = 2e-5 if dtype == torch.float32 else 2 * np.quantile(np.abs(expected - exact), 0.9) + 1e-4
    assert np.quantile(np.abs(found - exact), 0.9) < limit
    assert not any("forward" in part.__dict__ for part in model.module.modules())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("qwen3", {"Qwen3RMSNorm": 9, "Qwen3MLP": 2, "Qwen3Attention": 2}),
        ("gemma3, a window in one layer", {"Gemma3RMSNorm": 13, "Gemma3MLP": 2, "Gemma3Attention": 2}),
        ("phi3", {"Phi3RMSNorm": 5, "Phi3Attention": 2}),
        ("olmo2", {"Olmo2RMSNorm": 9, "Olmo2MLP": 2, "Olmo2Attention": 2}),
        ("cohere, scaled logits", {"CohereMLP": 2}),
        ("gpt2, learnt positions", {}),
    ],
)
def test_kernels_replace_the_parts_that_they_compute(family: str, expected: dict[str, int], dtype: torch.dtype) -> None:
    model = as_loaded(random_model(PACKED[family], dtype))
    found = model.fusion.recognised(model.module, model.device, dtype)
    assert found is not None
    assert Counter(type(part).__name__ for part, _ in found.replacements) == expected
    assert found.measures.keys() == {token_logps, token_logps_and_collisions}


@pytest.mark.parametrize(("family", "dtype"), CHECKED)
def test_models_pass_their_self_check_with_fused_kernels(family: str, dtype: torch.dtype) -> None:
    verdict = check(as_loaded(random_model(PACKED[family], dtype)), token_pool())
    assert (verdict.path, verdict.unfused) == ("packed", "")
    assert verdict.kernels.startswith("triton ")
    assert "liger" in verdict.kernels
