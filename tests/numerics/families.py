"""Tiny random models of many families, sequences to test them with, and their plain forward.

Weights are large (standard deviation 0.4), so that every query and key matters: a lost window, sink or soft cap moves
log-probs by far more than the tolerance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    DeepseekV3Config,
    Exaone4Config,
    FalconConfig,
    FalconH1Config,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    Glm4Config,
    GPT2Config,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteConfig,
    JambaConfig,
    Lfm2Config,
    Llama4TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    Qwen3NextConfig,
    SmolLM3Config,
    StableLmConfig,
    Starcoder2Config,
)

from prefscope.scoring.models import LanguageModel
from prefscope.scoring.sequences import TokenSequence

NATS_A_TOKEN = 1e-4
VOCABULARY = 128
CONTEXT = 64
WINDOW = 8
CPU = torch.device("cpu")
SIZE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
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
    "n_positions": CONTEXT,
    "initializer_range": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
VISION: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 28, "patch_size": 14}
SLIDING: dict[str, Any] = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}


def without(name: str) -> dict[str, Any]:
    """Return the common sizes, except one."""
    return {key: value for key, value in SIZE.items() if key != name}


PACKED: dict[str, PretrainedConfig] = {
    "llama, untied head": LlamaConfig(**SIZE, tie_word_embeddings=False),
    "llama, tied head": LlamaConfig(**SIZE, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**SIZE),
    "qwen2, a window in one layer": Qwen2Config(
        **SIZE, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": Qwen3Config(**SIZE, head_dim=8),
    "phi3": Phi3Config(**SIZE),
    "olmo2": Olmo2Config(**SIZE),
    "mistral, a window in all layers": MistralConfig(**SIZE, sliding_window=WINDOW),
    "starcoder2, a window in all layers": Starcoder2Config(**SIZE, sliding_window=WINDOW),
    "exaone4, a window in one layer": Exaone4Config(**SIZE, sliding_window=WINDOW, sliding_window_pattern=2),
    "gemma2, soft caps and a window": Gemma2Config(
        **SIZE, head_dim=8, final_logit_softcapping=3.0, attn_logit_softcapping=5.0, sliding_window=WINDOW
    ),
    "gemma3, a window in one layer": Gemma3TextConfig(**SIZE, head_dim=8, **SLIDING),
    "gemma3, with a vision tower": Gemma3Config(
        text_config={**SIZE, "head_dim": 8, "sliding_window": WINDOW},
        vision_config={**VISION, "hidden_size": 32, "intermediate_size": 64},
        mm_tokens_per_image=4,
        boi_token_index=125,
        eoi_token_index=126,
        image_token_index=127,
    ),
    "gpt_oss, sinks, experts and a window": GptOssConfig(
        **SIZE, head_dim=8, num_local_experts=4, num_experts_per_tok=2, **SLIDING
    ),
    "mixtral, experts": MixtralConfig(**SIZE, num_local_experts=4),
    "qwen3_moe, experts": Qwen3MoeConfig(**SIZE, num_experts=4, **EXPERTS),
    "deepseek_v3, latent attention": DeepseekV3Config(
        **{**SIZE, "num_key_value_heads": 4},
        **EXPERTS,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        kv_lora_rank=16,
        q_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=12,
    ),
    "granite, scaled logits": GraniteConfig(**SIZE, logits_scaling=8.0, embedding_multiplier=2.0),
    "cohere, scaled logits": CohereConfig(**SIZE, logit_scale=0.25),
    "glm4": Glm4Config(**SIZE, head_dim=8),
    "stablelm": StableLmConfig(**SIZE),
    "smollm3, a layer without positions": SmolLM3Config(**SIZE, no_rope_layers=[1, 0]),
    "gpt2, learnt positions": GPT2Config(**GPT2_SIZE),
    "gpt_neox, parallel residual": GPTNeoXConfig(**without("num_key_value_heads")),
    "opt, positions from the mask": OPTConfig(
        **without("intermediate_size"), ffn_dim=64, word_embed_proj_dim=32, dropout=0.0
    ),
}
"""Families that can be packed."""

HYBRIDS: dict[str, PretrainedConfig] = {
    "qwen3_next": Qwen3NextConfig(
        **SIZE,
        **EXPERTS,
        head_dim=8,
        num_experts=4,
        shared_expert_intermediate_size=32,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        layer_types=["linear_attention", "full_attention"],
    ),
    "falcon_h1": FalconH1Config(
        **SIZE, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_d_state=8, mamba_chunk_size=16
    ),
    "lfm2": Lfm2Config(**SIZE, layer_types=["conv", "full_attention"]),
    "jamba": JambaConfig(
        **SIZE,
        num_experts=2,
        mamba_d_state=8,
        mamba_dt_rank=4,
        use_mamba_kernels=False,
        attn_layer_period=2,
        attn_layer_offset=1,
    ),
    "mamba": MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, state_size=8, num_hidden_layers=2, initializer_range=0.4
    ),
}
"""Families whose recurrent or convolutional layers run on packed rows without an error, but leak between responses."""

UNSUITABLE: dict[str, tuple[PretrainedConfig, str]] = {
    "bloom, alibi": (
        BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.4),
        "it has its own attention code",
    ),
    "falcon, alibi": (
        FalconConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            alibi=True,
            initializer_range=0.4,
        ),
        "it has its own attention code",
    ),
    "mpt, alibi": (
        MptConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=VOCABULARY, initializer_range=0.4),
        "it has its own attention code",
    ),
    "llama4, a decoder that transformers does not name": (
        Llama4TextConfig(**SIZE, head_dim=8, intermediate_size_mlp=64, num_local_experts=4),
        "it has chunked_attention layers",
    ),
    "qwen3_next, hybrid": (HYBRIDS["qwen3_next"], "it has linear_attention layers"),
    "falcon_h1, hybrid": (HYBRIDS["falcon_h1"], "it has hybrid layers"),
    "lfm2, hybrid": (HYBRIDS["lfm2"], "it has conv layers"),
    "jamba, hybrid": (HYBRIDS["jamba"], "it has linear_attention layers"),
    "mamba, no attention": (HYBRIDS["mamba"], "it has linear_attention layers"),
}
"""Families that must be padded, and why."""

FAMILIES = {**PACKED, **{name: config for name, (config, _) in UNSUITABLE.items()}}


def no_halves(sequences: Sequence[TokenSequence]) -> None:
    pytest.fail(f"{len(sequences)} sequences were halved")


def random_model(config: PretrainedConfig, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Return a model as if loaded from a checkpoint in that dtype: rotary frequencies stay in float32."""
    torch.manual_seed(0)
    module: PreTrainedModel = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=dtype)
    module.eval()
    return module


def changed(config: PretrainedConfig, **settings: Any) -> PretrainedConfig:
    """Return a config with some settings changed."""
    other: PretrainedConfig = type(config)(**{**config.to_dict(), **settings})
    return other


def as_loaded(module: PreTrainedModel, peft: Any = None) -> LanguageModel:
    """Return a model as the loader would."""
    return LanguageModel(module, peft, CPU, str(module.dtype).removeprefix("torch."), "eager")


def random_sequences() -> list[TokenSequence]:
    """Return sequences of unequal lengths; padding id and end token occur inside."""
    generator = np.random.default_rng(0)
    sizes = [(40, 20), (3, 1), (17, 16), (25, 0)]
    return [TokenSequence(generator.integers(VOCABULARY, size=n).astype(np.int32), start) for n, start in sizes]


def related_sequences() -> list[TokenSequence]:
    """Return responses to one prompt, with everything that a packed row can share, among unrelated sequences.

    Two start alike and two of those go on alike; one is the beginning of another; one is there twice, with another
    boundary; one fills the context to its last position, as does a stranger.
    """
    generator = np.random.default_rng(1)

    def drawn(length: int) -> NDArray[np.int32]:
        return generator.integers(VOCABULARY, size=length).astype(np.int32)

    prompt, start, further = drawn(20), drawn(12), drawn(6)
    responses = [
        np.concatenate([start, further, drawn(9)]),
        np.concatenate([start, further, drawn(5)]),
        np.concatenate([start, drawn(10)]),
        start,
        drawn(CONTEXT - 20),
        drawn(1),
        drawn(0),
    ]
    related = [TokenSequence(np.concatenate([prompt, response]), 20) for response in responses]
    again = TokenSequence(related[0].token_ids, 7)
    return [*related, again, *random_sequences(), TokenSequence(drawn(CONTEXT), 30), TokenSequence(drawn(1), 1)]


def plain_logps(module: PreTrainedModel, sequence: TokenSequence) -> list[float]:
    """Return the log-probs of the scored tokens from the model's own logits of one sequence."""
    ids = torch.from_numpy(sequence.token_ids.astype(np.int64))
    with torch.no_grad():
        logps = module(input_ids=ids[None], use_cache=False).logits[0].float().log_softmax(-1)
    found: list[float] = logps[:-1].gather(-1, ids[1:, None])[sequence.first_scored - 1 :, 0].tolist()
    return found


def largest_difference(some: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    """Return the largest difference of any token, in nats."""
    flat, expected = (np.array([value for logps in side for value in logps]) for side in (some, others))
    return float(np.abs(flat - expected).max(initial=0.0))


def token_pool() -> NDArray[np.int32]:
    """Return the tokens of a data set, from which the self-check makes its probes."""
    return np.arange(3, 120, dtype=np.int32)
