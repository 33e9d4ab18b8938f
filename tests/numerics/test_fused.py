"""Fused kernels replace what they compute, for the time of a forward pass, and only if the self-check agrees."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module  # type: ignore[import-untyped]
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers.models.llama import modeling_llama
from transformers.models.llama.modeling_llama import LlamaAttention

from prefscope.scoring import fused_parts
from prefscope.scoring.alternatives import TopTokens
from prefscope.scoring.engine import forward
from prefscope.scoring.fused_kernels import find_kernels, kernel_packages
from prefscope.scoring.fused_parts import MANY_ROWS
from prefscope.scoring.logps import token_logps, token_logps_and_collisions
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.self_check import check, follow
from tests.numerics.families import PACKED, as_loaded, random_model, related_sequences, token_pool
from tests.numerics.substitutes import gelu_tanh, install, rms_norm, rotary, silu, substitutes

DTYPES = [torch.float32, torch.bfloat16]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
LLAMA = "llama, tied head"
PARTS = {
    LLAMA: {"LlamaRMSNorm": 5, "LlamaMLP": 2, "LlamaAttention": 2},
    "qwen2": {"Qwen2RMSNorm": 5, "Qwen2MLP": 2, "Qwen2Attention": 2},
    "qwen3": {"Qwen3RMSNorm": 9, "Qwen3MLP": 2, "Qwen3Attention": 2},
    "gemma2, soft caps and a window": {"Gemma2RMSNorm": 9, "Gemma2MLP": 2, "Gemma2Attention": 2},
    "gemma3, a window in one layer": {"Gemma3RMSNorm": 13, "Gemma3MLP": 2, "Gemma3Attention": 2},
    "olmo2": {"Olmo2RMSNorm": 9, "Olmo2MLP": 2, "Olmo2Attention": 2},
    "phi3": {"Phi3RMSNorm": 5, "Phi3Attention": 2},
    "mixtral, experts": {"MixtralRMSNorm": 5, "MixtralAttention": 2},
    "cohere, scaled logits": {"CohereMLP": 2},
    "stablelm": {"StableLmMLP": 2, "StableLmAttention": 2},
    "gpt2, learnt positions": {},
}


def model_of(family: str, dtype: torch.dtype = torch.float32) -> LanguageModel:
    return as_loaded(random_model(PACKED[family], dtype))


def replaced(model: LanguageModel, dtype: torch.dtype = torch.float32) -> dict[str, int]:
    found = model.fusion.recognised(model.module, model.device, dtype)
    return {} if found is None else Counter(type(part).__name__ for part, _ in found.replacements)


def computed(model: LanguageModel, *, is_fused: bool) -> np.ndarray:
    follow(model, "packed", is_fused=is_fused)
    return np.concatenate(forward(model, "packed", related_sequences(), token_logps_and_collisions))


@dtypes
@pytest.mark.parametrize("family", PARTS)
def test_parts_are_recognised_by_what_they_compute(
    family: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, substitutes())
    assert replaced(model_of(family, dtype), dtype) == PARTS[family]


@pytest.mark.parametrize(
    "family", [LLAMA, "gemma3, a window in one layer", "olmo2", "phi3", "deepseek_v3, latent attention"]
)
def test_log_probs_with_fused_kernels_are_those_without(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, substitutes())
    model = model_of(family)
    np.testing.assert_allclose(computed(model, is_fused=True), computed(model, is_fused=False), rtol=0, atol=1e-5)


def test_a_pass_calls_each_kernel_once_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    install(monkeypatch, substitutes(calls))
    model = model_of(LLAMA)
    computed(model, is_fused=True)  # and tries the kernels
    calls.clear()
    computed(model, is_fused=True)
    assert Counter(calls) == {"norm": 5, "gate": 2, "rotary": 2, "logps": 1}
    calls.clear()
    computed(model, is_fused=False)
    assert calls == []


def test_after_a_pass_the_model_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, substitutes())
    model = model_of(LLAMA)
    rotation, method = modeling_llama.apply_rotary_pos_emb, LlamaAttention.forward
    before = {name: dict(part.__dict__) for name, part in model.module.named_modules()}
    computed(model, is_fused=True)
    after = {name: dict(part.__dict__) for name, part in model.module.named_modules()}
    for name, attributes in before.items():
        assert after[name].keys() == attributes.keys()
        assert all(after[name][key] is value for key, value in attributes.items() if key != "_attn_implementation")
    assert (modeling_llama.apply_rotary_pos_emb, LlamaAttention.forward) == (rotation, method)


def test_after_a_failed_pass_the_model_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(gate: Tensor, up: Tensor) -> Tensor:
        if gate.shape[-1] == PACKED[LLAMA].intermediate_size:
            raise RuntimeError("an illegal memory access")
        return silu(gate, up)

    install(monkeypatch, substitutes(gates={"silu": failing}))
    model = model_of(LLAMA)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        computed(model, is_fused=True)
    assert not any("forward" in part.__dict__ for part in model.module.modules())


def wrong_norm(values: Tensor, weight: Tensor, epsilon: float, offset: float, casting: str) -> Tensor:
    return rms_norm(values, weight, epsilon * 3, offset, casting)


def wrong_rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    return rotary(query, key, cos, -sin)


@pytest.mark.parametrize(
    ("family", "wrong", "expected"),
    [
        (LLAMA, {"rms_norm": wrong_norm}, {"LlamaMLP": 2, "LlamaAttention": 2}),
        (LLAMA, {"gates": {"gelu_tanh": gelu_tanh}}, {"LlamaRMSNorm": 5, "LlamaAttention": 2}),
        (LLAMA, {"rotary": wrong_rotary}, {"LlamaRMSNorm": 5, "LlamaMLP": 2}),
        (LLAMA, {"rms_norm": None, "gates": {}, "rotary": None}, {}),
    ],
)
def test_a_kernel_that_computes_something_else_replaces_nothing(
    family: str, wrong: dict[str, Any], expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, substitutes(**wrong))
    assert replaced(model_of(family)) == expected


def test_a_kernel_that_is_wrong_for_many_rows_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(values: Tensor, *others: Any) -> Tensor:
        found = rms_norm(values, *others)
        return found.roll(1, -1) if values.numel() // values.shape[-1] >= 1 << 15 else found

    install(monkeypatch, substitutes(rms_norm=wrong))
    monkeypatch.setattr(fused_parts, "MANY_ROWS", MANY_ROWS)
    assert replaced(model_of("qwen3")) == {"Qwen3MLP": 2, "Qwen3Attention": 2}


@pytest.mark.parametrize("value", [-torch.inf, torch.nan])
def test_log_probs_that_take_odd_logits_for_others_are_not_used(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(logits: Tensor, token_ids: Tensor) -> Tensor:
        odd = logits.isnan() if value != value else logits == value  # noqa: PLR0124 (NaN is the one that is not)
        return token_logps(torch.where(odd, -1.0, logits), token_ids)

    install(monkeypatch, substitutes(measures={token_logps: careless}))
    model = model_of(LLAMA)
    found = model.fusion.recognised(model.module, model.device, torch.float32)
    assert found is not None
    assert not found.measures


def test_kernels_that_cannot_run_here_replace_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any) -> Any:
        raise RuntimeError("Failed to find C compiler")

    broken = substitutes(measures={token_logps: failing}, rms_norm=failing, gates={"silu": failing}, rotary=failing)
    install(monkeypatch, broken)
    model = model_of(LLAMA)
    assert model.fusion.recognised(model.module, model.device, torch.float32) is None
    verdict = check(model, token_pool())
    assert (verdict.path, verdict.kernels, verdict.unfused) == ("packed", "", "")


def test_parts_with_hooks_of_accelerate_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, substitutes())
    model = model_of(LLAMA)
    layers: Any = model.module.model.layers
    for part in (layers[0].input_layernorm, layers[1].mlp, layers[1].self_attn):
        add_hook_to_module(part, ModelHook())
    assert replaced(model) == {"LlamaRMSNorm": 4, "LlamaMLP": 1, "LlamaAttention": 1}
    np.testing.assert_allclose(computed(model, is_fused=True), computed(model, is_fused=False), rtol=0, atol=1e-5)


def test_linear_layers_with_adapters_are_called_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, substitutes())
    module = random_model(PACKED[LLAMA])
    adapted = get_peft_model(module, LoraConfig(target_modules="all-linear", init_lora_weights=False)).eval()
    model = as_loaded(module, adapted)
    assert replaced(model) == PARTS[LLAMA]
    found = computed(model, is_fused=True)
    np.testing.assert_allclose(found, computed(model, is_fused=False), rtol=0, atol=1e-5)
    with adapted.disable_adapter():
        base = computed(model, is_fused=True)
    assert np.abs(base - found).max() > 1e-3


@dtypes
@pytest.mark.parametrize("family", [LLAMA, "gemma2, soft caps and a window", "gpt2, learnt positions"])
def test_models_that_pass_the_self_check_are_fused(
    family: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, substitutes())
    model = model_of(family, dtype)
    verdict = check(model, token_pool())
    assert (verdict.path, verdict.kernels, verdict.unfused) == ("packed", "triton 3.9.0", "")
    assert model.fusion.on


def test_models_in_float64_are_not_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    install(monkeypatch, substitutes(calls))
    verdict = check(model_of(LLAMA, torch.float64), token_pool())
    assert (verdict.path, verdict.kernels, calls) == ("packed", "", [])


def test_fused_kernels_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, substitutes())
    model = model_of(LLAMA)
    verdict = check(model, token_pool(), may_fuse=False)
    assert (verdict.path, verdict.kernels, verdict.unfused) == ("packed", "", "")
    assert not model.fusion.on


def off_in_long_rows(values: Tensor, weight: Tensor, epsilon: float, offset: float, casting: str) -> Tensor:
    found = rms_norm(values, weight, epsilon, offset, casting)
    return found.roll(1, -2) if values.shape[-2] > 16 else found


def off_in_16_bits(values: Tensor, weight: Tensor, epsilon: float, offset: float, casting: str) -> Tensor:
    return (
        rms_norm(values, weight, epsilon, offset, casting)
        if values.dtype == torch.float32
        else off_in_long_rows(values, weight, epsilon, offset, casting)
    )


@pytest.mark.parametrize(
    ("wrong", "dtype", "reason"),
    [
        (off_in_long_rows, torch.float32, "one response leaks into others"),
        (off_in_long_rows, torch.bfloat16, "one response leaks into others"),
        (off_in_16_bits, torch.bfloat16, "leaks into others"),
    ],
)
def test_a_model_that_fails_with_fused_kernels_alone_is_packed_without(
    wrong: Any, dtype: torch.dtype, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of("qwen2", dtype)
    expected = computed(model, is_fused=False)
    install(monkeypatch, substitutes(rms_norm=wrong))
    verdict = check(model, token_pool())
    assert (verdict.path, verdict.kernels) == ("packed", "")
    assert reason in verdict.unfused
    assert not model.fusion.on
    np.testing.assert_array_equal(
        np.concatenate(forward(model, "packed", related_sequences(), token_logps_and_collisions)), expected
    )


def test_padded_rows_are_computed_by_the_models_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    install(monkeypatch, substitutes(calls))
    model = model_of(LLAMA)
    assert check(model, token_pool(), own_attention=True).path == "padded"
    assert calls == []


def test_there_are_no_kernels_on_a_cpu() -> None:
    assert find_kernels(torch.device("cpu")) is None
    assert isinstance(kernel_packages(), str)


def test_log_probs_beside_alternatives_are_those_of_the_fused_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    install(monkeypatch, substitutes(calls))
    model = model_of(LLAMA)
    follow(model, "packed", is_fused=True)
    alone = np.concatenate(forward(model, "packed", related_sequences(), token_logps))
    calls.clear()
    found = np.concatenate(forward(model, "packed", related_sequences(), TopTokens(3)))
    assert "logps" in calls
    np.testing.assert_array_equal(found[:, 0], alone)
