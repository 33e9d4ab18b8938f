"""The self-check: what it reports, and that it leaves a model unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, GPT2Config, PretrainedConfig, PreTrainedModel

from prefscope.scoring import attention, self_check
from prefscope.scoring.attention import NAME, packed_attention
from prefscope.scoring.engine import forward
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.self_check import ForwardChoice, check
from tests.numerics.families import (
    GPT2_SIZE,
    HYBRIDS,
    NATS_A_TOKEN,
    PACKED,
    as_loaded,
    plain_logps,
    random_model,
    random_sequences,
    token_pool,
)

LLAMA = PACKED["llama, tied head"]
PACKS = ForwardChoice("packed", "")
STATEFUL = {
    "llama, tied head": LLAMA,
    "gemma2": PACKED["gemma2, soft caps and a window"],
    "gpt_oss": PACKED["gpt_oss, sinks, experts and a window"],
    "deepseek_v3": PACKED["deepseek_v3, latent attention"],
    "lfm2": HYBRIDS["lfm2"],
    "mamba": HYBRIDS["mamba"],
}


def state(module: nn.Module) -> dict[str, tuple[torch.dtype, bytes]]:
    """Return the dtype and the bytes of every parameter and buffer."""
    tensors: list[tuple[str, Tensor]] = [*module.named_parameters(remove_duplicate=False), *module.named_buffers()]
    return {name: (one.dtype, one.detach().reshape(-1).view(torch.uint8).numpy().tobytes()) for name, one in tensors}


def dtypes_seen(module: PreTrainedModel) -> list[torch.dtype]:
    """Return a list to which every pass through the embeddings appends its dtype."""
    seen: list[torch.dtype] = []
    embeddings: nn.Module = module.get_input_embeddings()
    embeddings.register_forward_hook(lambda _module, _args, embedded: seen.append(embedded.dtype))
    return seen


def failing_in_a_row_of(tokens: int, error: Exception) -> Callable[..., None]:
    """Return a hook that makes a pass over a longer row fail."""

    def hook(_module: nn.Module, _args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if kwargs.get("position_ids") is not None and kwargs["input_ids"].shape[1] > tokens:
            raise error

    return hook


def check_failing_packed(model: LanguageModel, error: Exception) -> ForwardChoice:
    """Return the verdict on a model that fails whenever it computes a packed row."""
    decoder: nn.Module = model.module.get_decoder()
    with decoder.register_forward_pre_hook(failing_in_a_row_of(48, error), with_kwargs=True):
        return check(model, token_pool())


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in STATEFUL.items()])
def test_a_model_in_bfloat16_keeps_every_bit_and_dtype_of_its_weights_and_buffers(
    config: PretrainedConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_check, "_unsuitable", lambda _module: "")
    module = random_model(config, torch.bfloat16)
    before = state(module)
    check(as_loaded(module), token_pool())
    assert state(module) == before


def test_bfloat16_models_have_buffers_in_float32_which_are_no_weights() -> None:
    found = {
        name: dtype
        for name, (dtype, _) in state(random_model(LLAMA, torch.bfloat16)).items()
        if dtype != torch.bfloat16
    }
    assert found == {"model.rotary_emb.inv_freq": torch.float32, "model.rotary_emb.original_inv_freq": torch.float32}


def test_tied_weights_stay_tied() -> None:
    module = random_model(LLAMA, torch.bfloat16)
    check(as_loaded(module), token_pool())
    assert module.get_output_embeddings().weight is module.get_input_embeddings().weight


@pytest.mark.parametrize("failing", [False, True], ids=["packed", "failing"])
def test_the_check_does_not_change_how_a_model_scores(*, failing: bool) -> None:
    module, sequences = random_model(LLAMA, torch.bfloat16), random_sequences()
    expected = [plain_logps(module, sequence) for sequence in sequences]
    model = as_loaded(module)
    if failing:
        check_failing_packed(model, RuntimeError("no"))
    else:
        check(model, token_pool())
        self_check.follow(model, "padded")
    found = forward(model, "padded", sequences[:1])
    assert found[0].tolist() == pytest.approx(expected[0], abs=NATS_A_TOKEN)


def test_sixteen_bits_are_compared_in_float32_and_as_they_are() -> None:
    module = random_model(LLAMA, torch.bfloat16)
    seen = dtypes_seen(module)
    check(as_loaded(module), token_pool())
    assert seen == [torch.float32] * 4 + [torch.bfloat16] * (3 + 4)


def test_sixteen_bit_models_are_compared_as_they_are_if_float32_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "available_bytes", lambda _device: 0)
    module = random_model(LLAMA, torch.bfloat16)
    seen = dtypes_seen(module)
    assert check(as_loaded(module), token_pool()) == PACKS
    assert set(seen) == {torch.bfloat16}


def test_weights_spread_over_devices_are_compared_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    module = random_model(LLAMA, torch.bfloat16)
    monkeypatch.setattr(module, "hf_device_map", {"": "cpu"}, raising=False)
    seen = dtypes_seen(module)
    assert check(as_loaded(module), token_pool()) == PACKS
    assert set(seen) == {torch.bfloat16}


def test_large_errors_are_found_in_sixteen_bits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_window(*args: Any, **kwargs: Any) -> Any:
        return packed_attention(*args, **{**kwargs, "sliding_window": None})

    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, without_window)
    monkeypatch.setattr(self_check, "available_bytes", lambda _device: 0)
    verdict = check(as_loaded(random_model(PACKED["mistral, a window in all layers"], torch.bfloat16)), token_pool())
    assert verdict.path == "padded"
    assert verdict.reason.startswith("packed log-probs differ from plain ones by ")


def test_the_attention_is_left_set_for_the_chosen_forward_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    packs, leaks = as_loaded(random_model(LLAMA)), as_loaded(random_model(HYBRIDS["lfm2"]))
    monkeypatch.setattr(self_check, "_unsuitable", lambda _module: "")
    for model, expected in ((packs, NAME), (leaks, "eager")):
        check(model, token_pool())
        assert model.module.config._attn_implementation == expected


def test_a_requested_attention_is_not_replaced() -> None:
    model = as_loaded(random_model(LLAMA))
    assert check(model, token_pool(), own_attention=True) == ForwardChoice(
        "padded", "an attention implementation was requested"
    )
    assert model.module.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 20971520 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 20.00 GB)"),
    ],
    ids=["CUDA", "CPU", "MPS"],
)
def test_running_out_of_memory_does_not_count_as_a_packing_failure(error: RuntimeError) -> None:
    module = random_model(LLAMA, torch.bfloat16)
    before = state(module)
    with pytest.raises(RuntimeError, match="memory"):
        check_failing_packed(as_loaded(module), error)
    assert state(module) == before


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied\nmore"), "mat1 and mat2 shapes cannot be multiplied"),
        (TypeError(), "TypeError"),
        (NotImplementedError("positions"), "positions"),
    ],
)
def test_a_model_that_fails_on_a_packed_row_is_padded_and_the_error_reported(error: Exception, told: str) -> None:
    model = as_loaded(random_model(LLAMA))
    assert check_failing_packed(model, error) == ForwardChoice("padded", f"its packed forward pass fails ({told})")
    assert model.module.config._attn_implementation == "eager"


@pytest.mark.parametrize("error", [KeyError("prefscope_packed"), AssertionError("a mask is needed")])
def test_a_model_that_refuses_a_packed_row_in_any_way_is_padded(error: Exception) -> None:
    assert check_failing_packed(as_loaded(random_model(LLAMA)), error).path == "padded"


def test_a_keyword_that_the_packed_attention_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def biased(*args: Any, **kwargs: Any) -> Any:
        return packed_attention(*args, **kwargs, position_bias=torch.zeros(1))

    monkeypatch.setitem(AttentionInterface._global_mapping, NAME, biased)
    found = check(as_loaded(random_model(LLAMA)), token_pool())
    assert found == ForwardChoice("padded", "the attention of LlamaAttention needs position_bias")


def test_a_model_whose_embeddings_cannot_be_poisoned_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, others = as_loaded(random_model(LLAMA)), nn.Embedding(128, 32)
    monkeypatch.setattr(model.module, "get_input_embeddings", lambda: others)
    assert check(model, token_pool()) == ForwardChoice("padded", "it uses token ids in addition to their embeddings")


def test_a_model_without_finite_log_probs_is_padded() -> None:
    model = as_loaded(random_model(LLAMA))
    with torch.no_grad():
        next(model.module.parameters()).fill_(torch.nan)
    assert check(model, token_pool()).path == "padded"


@pytest.mark.parametrize("pool", [[], [5], [0], [7, 7, 7], [5, 6], [100, 101, 102]], ids=str)
def test_few_distinct_tokens_are_enough(pool: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "_unsuitable", lambda _module: "")
    packs, leaks = (as_loaded(random_model(config)) for config in (LLAMA, HYBRIDS["lfm2"]))
    assert check(packs, np.array(pool, dtype=np.int32)) == PACKS
    assert check(leaks, np.array(pool, dtype=np.int32)).path == "padded"


@pytest.mark.parametrize("context", [3, 7, 12, 47])
def test_a_context_shorter_than_the_probes_is_kept(context: int) -> None:
    model = as_loaded(random_model(GPT2Config(**{**GPT2_SIZE, "n_positions": context})))
    assert check(model, token_pool()) == PACKS


@pytest.mark.parametrize("broken", ["outputs of other heads", "log-sum-exps of other heads"])
def test_a_kernel_that_is_wrong_in_sixteen_bits_alone_is_not_used(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention.KERNELS["cpu"]

    def kernel(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        output, lse = right(query, key, value, scale)
        if query.dtype == torch.bfloat16:
            output = output.roll(1, 1) if broken == "outputs of other heads" else output
            lse = lse.roll(1, 1) if broken == "log-sum-exps of other heads" else lse
        return output, lse

    monkeypatch.setitem(attention.KERNELS, "cpu", kernel)
    choice = check(as_loaded(random_model(PACKED["qwen2"], torch.bfloat16)), token_pool())
    assert choice.path == "padded"
    assert choice.reason.startswith("in bfloat16, packed log-probs are ")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", PACKED)
def test_right_kernels_round_about_as_the_plain_forward_does(family: str, dtype: torch.dtype) -> None:
    reason = check(as_loaded(random_model(PACKED[family], dtype)), token_pool()).reason
    assert "from those of float32" not in reason  # with old releases of torch, NaN may leak through experts in bfloat16
