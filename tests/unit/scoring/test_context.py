"""The context length of a config, including scaling of rotary positions."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import (
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    Olmo3Config,
    OPTConfig,
    PretrainedConfig,
)

from prefscope.errors import ModelError
from prefscope.scoring.context import context_of, is_rotary, varies_with_length

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
OLDER = {"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": 4.0}}
FACTORS = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def llama(positions: int, **rope: Any) -> PretrainedConfig:
    return LlamaConfig(
        hidden_size=64,
        num_attention_heads=4,
        max_position_embeddings=positions,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, **rope},
    )


def by_layer(kind: Any, **rope: Any) -> PretrainedConfig:
    plain = {"rope_type": "default", "rope_theta": 10000.0}
    ropes = {"sliding_attention": plain, "full_attention": {"rope_theta": 10000.0, **rope}}
    config: PretrainedConfig = kind(max_position_embeddings=64, rope_parameters=ropes)
    return config


@pytest.mark.parametrize(
    ("config", "context"),
    [
        (llama(64, rope_type="default"), 64),
        (llama(64, rope_type="linear", factor=4.0), 256),
        (llama(64, rope_type="linear", factor=1.5), 96),
        (llama(64, rope_type="dynamic", factor=2.0), 128),
        (llama(64, **YARN), 256),
        (llama(256, **YARN), 256),
        (llama(1024, rope_type="llama3", factor=32.0, **LLAMA3), 1024),
        (llama(512, rope_type="longrope", original_max_position_embeddings=64, **FACTORS), 512),
        (
            LlamaConfig.from_dict({"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": 4.0}}),
            256,
        ),
        (by_layer(Olmo3Config, **YARN), 256),
        (by_layer(Gemma3TextConfig, rope_type="linear", factor=8.0), 64),
        (GPT2Config(n_positions=64), 64),
        (BloomConfig(), None),
    ],
    ids=[
        *("no scaling", "linear", "a broken factor", "dynamic", "yarn before scaling", "yarn after scaling", "llama3"),
        *("longrope", "a config of the older layout", "by kind of layer", "gemma 3", "learned positions", "no limit"),
    ],
)
def test_the_context_is_the_length_after_scaling(config: PretrainedConfig, context: int | None) -> None:
    assert context_of(config) == context


@pytest.mark.parametrize(
    ("config", "rotary"),
    [
        (llama(64), True),
        (by_layer(Olmo3Config, rope_type="default"), True),
        (GPT2Config(), False),
        (OPTConfig(), False),
    ],
)
def test_rotary_positions_are_unlimited_and_position_tables_are_not(config: PretrainedConfig, *, rotary: bool) -> None:
    assert is_rotary(config) is rotary


def test_only_dynamic_frequencies_vary_with_the_length() -> None:
    assert varies_with_length(llama(64, rope_type="dynamic", factor=2.0))
    assert not varies_with_length(llama(64, rope_type="linear", factor=2.0))
    assert not varies_with_length(GPT2Config())


@pytest.mark.parametrize("length", [[], "64", 64.0, True])
def test_a_length_that_is_not_a_whole_number_is_refused(length: object) -> None:
    config = PretrainedConfig()
    config.max_position_embeddings = length
    with pytest.raises(ModelError, match="not a whole number"):
        context_of(config)
