"""The text part of a vision-language model gives the log-probs of the whole model's plain forward on a text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    BertConfig,
    BertLMHeadModel,
    Idefics3Config,
    InternVLConfig,
    LlavaConfig,
    Mistral3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3VLConfig,
    T5Config,
)

from prefscope.errors import ModelError
from prefscope.scoring import models as loading
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.engine import forward
from prefscope.scoring.self_check import ForwardChoice, check
from prefscope.settings import ModelSettings
from tests.numerics.families import NATS_A_TOKEN, SIZE, as_loaded, plain_logps, related_sequences, token_pool

ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
EYE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
QWEN_EYE = {"depth": 1, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 2, "intermediate_size": 32}


def _with_eye(config: Callable[..., Any], text: str, eye: str, **more: Any) -> Callable[[], PretrainedConfig]:
    return lambda: config(text_config={**SIZE, "model_type": text}, vision_config={**EYE, "model_type": eye, **more})


VISION_LANGUAGE: Mapping[str, Callable[[], PretrainedConfig]] = {
    "qwen2_5_vl": lambda: Qwen2_5_VLConfig(text_config={**SIZE, **ROPE}, vision_config=QWEN_EYE),
    "qwen2_vl": lambda: Qwen2VLConfig(text_config={**SIZE, **ROPE}, vision_config={**QWEN_EYE, "embed_dim": 32}),
    "qwen3_vl": lambda: Qwen3VLConfig(
        text_config={**SIZE, **ROPE, "head_dim": 8}, vision_config={**QWEN_EYE, "deepstack_visual_indexes": [0]}
    ),
    "llava": _with_eye(LlavaConfig, "llama", "clip_vision_model"),
    "mistral3": _with_eye(Mistral3Config, "mistral", "pixtral"),
    "idefics3": _with_eye(Idefics3Config, "llama", "idefics3_vision"),
    "internvl": _with_eye(InternVLConfig, "qwen2", "internvl_vision", image_size=[28, 28], patch_size=[14, 14]),
}


def random_weights(module: PreTrainedModel) -> PreTrainedModel:
    torch.manual_seed(0)
    for weight in module.parameters():
        if weight.dim() > 1:
            weight.data = 0.2 * torch.randn_like(weight)
    module.eval()
    return module


@pytest.mark.parametrize("name", VISION_LANGUAGE)
def test_a_text_is_scored_packed_as_the_whole_model_would(name: str, tmp_path: Path) -> None:
    whole = random_weights(AutoModelForImageTextToText.from_config(VISION_LANGUAGE[name](), dtype=torch.float32))
    whole.save_pretrained(tmp_path)
    sequences = related_sequences()
    expected = [plain_logps(whole, sequence) for sequence in sequences]
    checkpoint, settings = Checkpoint(name, tmp_path), ModelSettings(str(tmp_path))
    model = loading.load_model(checkpoint, settings, device=torch.device("cpu"), dtype="float32")
    assert check(model, token_pool()) == ForwardChoice("packed", "")
    for found, plain in zip(forward(model, "packed", sequences), expected, strict=True):
        assert found.tolist() == pytest.approx(plain, abs=NATS_A_TOKEN)
    assert loading.attention_of(checkpoint, settings) == model.attention
    assert loading.context_length(checkpoint, settings) == SIZE["max_position_embeddings"]


@pytest.mark.parametrize("attn", ["auto", "eager"])
def test_a_model_with_bidirectional_attention_is_refused(attn: str) -> None:
    bert = BertConfig(
        vocab_size=SIZE["vocab_size"],
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with pytest.raises(ModelError, match="BertLMHeadModel looks ahead"):
        check(as_loaded(random_weights(BertLMHeadModel(bert))), token_pool(), own_attention=attn != "auto")


def test_an_encoder_decoder_model_is_refused(tmp_path: Path) -> None:
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="a t5 model has an encoder and a decoder"):
        loading.attention_of(Checkpoint("t5", tmp_path), ModelSettings(str(tmp_path)))
