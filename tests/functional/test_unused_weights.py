"""Weights that do not fit a checkpoint's config: transformers drops them, so they are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.load_errors import refuse_unused

Program = Callable[..., tuple[int, str, str]]


def change_config(folder: Path, **changes: Any) -> None:
    """Change values of a checkpoint's config."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def add_weights(folder: Path, weights: dict[str, torch.Tensor]) -> None:
    """Add tensors to a checkpoint's weights."""
    path = folder / "model.safetensors"
    save_file(load_file(path) | weights, path, metadata={"format": "pt"})


@pytest.fixture
def policy(samples: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny policy."""
    return Path(shutil.copytree(samples / "tiny-policy", tmp_path / "policy"))


def test_a_config_with_fewer_layers_than_the_weights_is_refused(program: Program, pairs: Path, policy: Path) -> None:
    change_config(policy, num_hidden_layers=3)
    code, _, err = program("score", str(pairs), "--policy", str(policy), "--ref", "none")
    assert code == 2
    assert "weights of this checkpoint have no place in the model that its config describes" in err
    assert "layers.3." in err


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.o_proj.bias", "model.norm.bias"])
def test_biases_missing_from_the_config_are_refused(
    program: Program, pairs: Path, policy: Path, samples: Path, name: str
) -> None:
    config = json.loads((policy / "config.json").read_text())
    add_weights(policy, {name: torch.ones(config["hidden_size"])})
    code, _, err = program("score", str(pairs), "--policy", str(policy), "--ref", str(samples / "tiny-ref"))
    assert code == 2
    assert name in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.4.eh_proj.weight", "visual.blocks.0.weight"],
)
def test_buffers_next_token_heads_and_other_towers_are_ignored(
    program: Program, pairs: Path, policy: Path, name: str
) -> None:
    change_config(policy, num_nextn_predict_layers=1)
    assert program("score", str(pairs), "--policy", str(policy), "--ref", "none", "-o", "before.csv")[0] == 0
    add_weights(policy, {name: torch.ones(4)})
    assert program("score", str(pairs), "--policy", str(policy), "--ref", "none", "-o", "after.csv")[0] == 0
    assert Path("after.csv").read_bytes() == Path("before.csv").read_bytes()


def test_biases_of_another_family_are_refused(program: Program, pairs: Path, policy: Path, tmp_path: Path) -> None:
    """Qwen 2's weights under a Llama config lose their biases."""
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": json.loads((policy / "config.json").read_text())["vocab_size"],
    }
    folder = tmp_path / "qwen"
    shutil.copytree(policy, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    AutoModelForCausalLM.from_config(Qwen2Config(**sizes)).save_pretrained(folder)
    LlamaConfig(**sizes).save_pretrained(folder)
    code, _, err = program("score", str(pairs), "--policy", str(folder), "--ref", "none")
    assert code == 2
    assert "have no place" in err


def test_scales_of_a_quantized_checkpoint_are_ignored_but_not_its_extra_layers(policy: Path) -> None:
    checkpoint, module = Checkpoint("quantized", policy), AutoModelForCausalLM.from_pretrained(policy)
    scales = ["model.layers.0.self_attn.q_proj.weight_scale", "lm_head.weight_scale"]
    refuse_unused(checkpoint, scales, module, quantized=True)
    with pytest.raises(ModelError, match=r"1 weights .* the first is model\.layers\.4\.mlp\.up_proj\.weight"):
        refuse_unused(checkpoint, [*scales, "model.layers.4.mlp.up_proj.weight"], module, quantized=True)
    with pytest.raises(ModelError, match="2 weights"):
        refuse_unused(checkpoint, scales, module, quantized=False)
