"""Many model families, packed and padded, compared with the plain forward of one sequence at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import ModernBertDecoderConfig, PretrainedConfig

from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.engine import forward, score_batch
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.packing import pack
from prefscope.scoring.self_check import ForwardChoice, check
from tests.numerics.families import (
    CONTEXT,
    FAMILIES,
    NATS_A_TOKEN,
    PACKED,
    SIZE,
    UNSUITABLE,
    as_loaded,
    no_halves,
    plain_logps,
    random_model,
    random_sequences,
    related_sequences,
    token_pool,
)

pytestmark = pytest.mark.slow

OWN_ATTENTION = "it has its own attention code"
EVERYTHING = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]


def with_adapter() -> LanguageModel:
    """Return a model with adapters in all its layers and in its head."""
    module = random_model(PACKED["llama, untied head"])
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules=EVERYTHING, use_dora=True, init_lora_weights=False)
    peft: Any = get_peft_model(module, config).eval()
    return as_loaded(module, peft)


def test_related_sequences_share_prefixes_at_three_depths_in_a_row_longer_than_the_context() -> None:
    row = pack(related_sequences())
    depths: list[int] = []
    for segment in row.segments:
        depths.append(0 if segment.parent < 0 else depths[segment.parent] + 1)
    assert max(depths) == 3
    assert row.positions.max() == CONTEXT - 1
    assert CONTEXT < len(row.token_ids) < sum(len(one.token_ids) for one in related_sequences())


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in PACKED.items()])
def test_a_packed_row_gives_the_log_probs_of_the_plain_forward(config: PretrainedConfig) -> None:
    module, sequences = random_model(config), related_sequences()
    expected = [plain_logps(module, sequence) for sequence in sequences]
    model = as_loaded(module)
    assert check(model, token_pool()) == ForwardChoice("packed", "")
    found = forward(model, "packed", sequences)
    for logps, plain in zip(found, expected, strict=True):
        assert logps.tolist() == pytest.approx(plain, abs=NATS_A_TOKEN)


@pytest.mark.parametrize(
    ("config", "reason"), [pytest.param(config, reason, id=name) for name, (config, reason) in UNSUITABLE.items()]
)
def test_a_family_that_cannot_be_packed_is_padded_and_the_reason_reported(
    config: PretrainedConfig, reason: str
) -> None:
    model = as_loaded(random_model(config))
    if reason == OWN_ATTENTION and model.module._can_set_attn_implementation():
        pytest.skip("this transformers computes the family's attention in a way that can be replaced")
    assert check(model, token_pool()) == ForwardChoice("padded", reason)


def test_a_model_whose_attention_cannot_be_replaced_is_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    module = random_model(PACKED["llama, tied head"])
    monkeypatch.setattr(type(module), "_can_set_attn_implementation", lambda *_: False)
    assert check(as_loaded(module), token_pool()) == ForwardChoice("padded", OWN_ATTENTION)


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in FAMILIES.items()])
def test_a_padded_batch_gives_the_log_probs_of_the_plain_forward(config: PretrainedConfig) -> None:
    module, sequences = random_model(config), random_sequences()
    found = score_batch(as_loaded(module), "padded", sequences, no_halves)
    for logps, sequence in zip(found, sequences, strict=True):
        assert logps.tolist() == pytest.approx(plain_logps(module, sequence), abs=NATS_A_TOKEN)


def test_a_model_that_calls_another_layer_its_decoder_gives_the_log_probs_of_the_plain_forward() -> None:
    module, sequence = random_model(ModernBertDecoderConfig(**SIZE)), random_sequences()[0]
    found = score_batch(as_loaded(module), "padded", [sequence], no_halves)[0]
    assert found.tolist() == pytest.approx(plain_logps(module, sequence), abs=NATS_A_TOKEN)


def test_a_model_that_fell_back_to_padding_gives_the_log_probs_of_the_plain_forward() -> None:
    module, sequences = random_model(FAMILIES["lfm2, hybrid"]), related_sequences()
    expected = [plain_logps(module, sequence) for sequence in sequences]
    model = as_loaded(module)
    found = score_batch(model, check(model, token_pool()).path, sequences, no_halves)
    for logps, plain in zip(found, expected, strict=True):
        assert logps.tolist() == pytest.approx(plain, abs=NATS_A_TOKEN)


@pytest.mark.parametrize("path", ["packed", "padded"])
def test_adapters_of_every_layer_and_of_the_head_give_the_log_probs_of_their_plain_forward(path: Any) -> None:
    model, sequences = with_adapter(), related_sequences()
    expected = [plain_logps(model.peft, sequence) for sequence in sequences]
    if path == "packed":
        assert check(model, token_pool()) == ForwardChoice("packed", "")
    found = forward(model, path, sequences)
    for logps, plain in zip(found, expected, strict=True):
        assert logps.tolist() == pytest.approx(plain, abs=NATS_A_TOKEN)


def test_the_base_of_an_adapter_is_scored_packed_with_the_adapter_disabled() -> None:
    base, adapter = Checkpoint("base", Path("base")), Checkpoint("lora", Path("lora"), Checkpoint("base", Path("base")))
    sequences = related_sequences()
    bare = random_model(PACKED["llama, untied head"])
    expected = [plain_logps(bare, sequence) for sequence in sequences]
    model = with_adapter()
    check(model, token_pool())
    with model.adapter_for(adapter):
        adapted = forward(model, "packed", sequences)
    with model.adapter_for(base):
        found = forward(model, "packed", sequences)
    for logps, plain in zip(found, expected, strict=True):
        assert logps.tolist() == pytest.approx(plain, abs=NATS_A_TOKEN)
    assert np.abs(np.concatenate(adapted) - np.concatenate(found)).max() > 1.0
