"""Heads of many model families: soft caps, scales and biases are the model's own, against its plain forward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    Gemma3Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MixtralConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3NextConfig,
)

from prefscope.scoring.engine import score_batch
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.sequences import TokenSequence

NATS_A_TOKEN = 1e-4
VOCABULARY = 128
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2_SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28, "patch_size": 14}


def without(name: str) -> dict[str, Any]:
    """Return the common sizes but one."""
    return {key: value for key, value in SIZE.items() if key != name}


FAMILIES: dict[str, PretrainedConfig] = {
    "llama, untied head": LlamaConfig(**SIZE, tie_word_embeddings=False),
    "llama, tied head": LlamaConfig(**SIZE, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZE),
    "gemma2, soft caps and a sliding window": Gemma2Config(
        **SIZE, head_dim=8, final_logit_softcapping=3.0, attn_logit_softcapping=5.0, sliding_window=8
    ),
    "granite, scaled logits": GraniteConfig(**SIZE, logits_scaling=8.0, embedding_multiplier=2.0),
    "cohere, scaled logits": CohereConfig(**SIZE, logit_scale=0.25),
    "gpt2, learnt positions": GPT2Config(**GPT2_SIZE),
    "gpt_neox, parallel residual": GPTNeoXConfig(**without("num_key_value_heads")),
    "bloom, alibi": BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.4),
    "llama4, a decoder that transformers does not name": Llama4TextConfig(
        **SIZE, head_dim=8, intermediate_size_mlp=64, num_local_experts=4
    ),
    "mixtral, experts": MixtralConfig(**SIZE, num_local_experts=4),
    "mamba, no attention": MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, state_size=8, num_hidden_layers=2, initializer_range=0.4
    ),
    "qwen3_next, hybrid": Qwen3NextConfig(
        **SIZE,
        head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"],
    ),
    "gemma3, with a vision tower": Gemma3Config(
        text_config={**SIZE, "head_dim": 8, "sliding_window": 8},
        vision_config={**VISION, "hidden_size": 32, "intermediate_size": 64},
        mm_tokens_per_image=4,
        boi_token_index=125,
        eoi_token_index=126,
        image_token_index=127,
    ),
    "opt, positions from the mask": OPTConfig(
        **without("intermediate_size"),
        ffn_dim=64,
        word_embed_proj_dim=32,
        dropout=0.0,
    ),
}


def no_halves(size: int) -> None:
    pytest.fail(f"halved to {size}")


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    module: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    return module


def random_sequences() -> list[TokenSequence]:
    """Return sequences of unequal lengths; padding id and end token occur inside."""
    generator = np.random.default_rng(0)
    sizes = [(40, 20), (3, 1), (17, 16), (25, 0)]
    return [TokenSequence(generator.integers(VOCABULARY, size=n).astype(np.int32), start) for n, start in sizes]


def plain_logps(module: PreTrainedModel, sequence: TokenSequence) -> list[float]:
    """Return the log-probs of the scored tokens from the model's own logits of one sequence."""
    ids = torch.from_numpy(sequence.token_ids.astype(np.int64))
    with torch.no_grad():
        logps = module(input_ids=ids[None], use_cache=False).logits[0].float().log_softmax(-1)
    found: list[float] = logps[:-1].gather(-1, ids[1:, None])[sequence.first_scored - 1 :, 0].tolist()
    return found


@pytest.mark.parametrize("config", [pytest.param(config, id=name) for name, config in FAMILIES.items()])
def test_a_padded_batch_gives_the_log_probs_of_the_plain_forward(config: PretrainedConfig) -> None:
    module, sequences = random_model(config), random_sequences()
    model = LanguageModel(module, None, torch.device("cpu"), "float32", "eager")
    found = score_batch(model, "padded", sequences, no_halves)
    for logps, sequence in zip(found, sequences, strict=True):
        assert logps.tolist() == pytest.approx(plain_logps(module, sequence), abs=NATS_A_TOKEN)


def test_adapters_of_every_layer_and_of_the_head_give_the_log_probs_of_their_plain_forward() -> None:
    module, sequences = random_model(FAMILIES["llama, untied head"]), random_sequences()
    plain = [plain_logps(module, sequence) for sequence in sequences]
    torch.manual_seed(1)
    everything = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    config = LoraConfig(r=2, target_modules=everything, use_dora=True, init_lora_weights=False)
    peft: Any = get_peft_model(module, config).eval()
    found = score_batch(
        LanguageModel(module, peft, torch.device("cpu"), "float32", "eager"), "padded", sequences, no_halves
    )
    for logps, sequence, without_adapter in zip(found, sequences, plain, strict=True):
        assert logps.tolist() == pytest.approx(plain_logps(peft, sequence), abs=NATS_A_TOKEN)
        assert logps.tolist() != pytest.approx(without_adapter, abs=NATS_A_TOKEN) or not without_adapter


@pytest.mark.parametrize(
    ("family", "name", "value"),
    [
        ("gemma2, soft caps and a sliding window", "final_logit_softcapping", None),
        ("granite, scaled logits", "logits_scaling", 1.0),
        ("cohere, scaled logits", "logit_scale", 1.0),
    ],
)
def test_what_a_head_does_to_its_logits_matters_here(family: str, name: str, value: float | None) -> None:
    module, sequence = random_model(FAMILIES[family]), random_sequences()[0]
    without = random_model(type(module.config)(**{**module.config.to_dict(), name: value}))
    difference = np.subtract(plain_logps(module, sequence), plain_logps(without, sequence))
    assert np.abs(difference).max() > 1.0
