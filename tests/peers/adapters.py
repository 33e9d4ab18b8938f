"""Adapters of every kind that PEFT loads, with weights as after training, so that each has an effect."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import (
    AdaLoraConfig,
    BOFTConfig,
    FourierFTConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
    TrainableTokensConfig,
    VBLoRAConfig,
    VeraConfig,
    get_peft_model,
)
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen2Config

from prefscope.folders import sample_data

ATTENTION = ["q_proj", "v_proj"]
LINEAR = [*ATTENTION, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
NEW_TOKENS = 5


def _lora(**options: Any) -> LoraConfig:
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ATTENTION, "task_type": "CAUSAL_LM"}
    return LoraConfig(**settings | options)


def _of(kind: Callable[..., Any], **options: Any) -> Callable[[], Any]:
    return lambda: kind(task_type="CAUSAL_LM", **options)


ADDITIVE: Mapping[str, Callable[[], Any]] = {
    "lora": _lora,
    "lora, gaussian": lambda: _lora(init_lora_weights="gaussian"),
    "lora of all layers, rank-stabilized": lambda: _lora(use_rslora=True, target_modules="all-linear"),
    "dora": lambda: _lora(use_dora=True, target_modules=LINEAR),
    "lora, ranks by pattern": lambda: _lora(rank_pattern={"q_proj": 2}, alpha_pattern={"v_proj": 32}),
    "lora with a bias of its own": lambda: _lora(lora_bias=True),
}
"""Adapters that restore the published base when disabled."""

OTHERS: Mapping[str, Callable[[], Any]] = {
    "pissa": lambda: _lora(init_lora_weights="pissa"),
    "olora": lambda: _lora(init_lora_weights="olora"),
    "lora, orthogonal": lambda: _lora(init_lora_weights="orthogonal"),
    "lora of the embeddings": lambda: _lora(target_modules=[*ATTENTION, "embed_tokens"]),
    "lora that trains all biases": lambda: _lora(bias="all"),
    "lora that trains its layers' biases": lambda: _lora(bias="lora_only"),
    "lora with a whole head": lambda: _lora(modules_to_save=["lm_head"]),
    "lora with whole embeddings": lambda: _lora(modules_to_save=["embed_tokens"]),
    "lora with whole norms": lambda: _lora(modules_to_save=["norm"]),
    "lora with trained tokens": lambda: _lora(trainable_token_indices=[5, 66, 270]),
    "lora with repeated layers": lambda: _lora(layer_replication=[(0, 3), (1, 4)]),
    "trained tokens": _of(TrainableTokensConfig, token_indices=[5, 66, 270]),
    "ia3": _of(IA3Config, target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "vera": _of(VeraConfig, r=8, target_modules=["q_proj", "o_proj"]),
    "oft": _of(OFTConfig, oft_block_size=8, target_modules=ATTENTION),
    "boft": _of(BOFTConfig, boft_block_size=4, target_modules=["q_proj"]),
    "loha": _of(LoHaConfig, r=4, target_modules=ATTENTION),
    "lokr": _of(LoKrConfig, r=4, target_modules=ATTENTION),
    "hra": _of(HRAConfig, r=4, target_modules=ATTENTION),
    "vblora": _of(VBLoRAConfig, r=2, num_vectors=16, vector_length=8, topk=2, target_modules=["q_proj"]),
    "fourierft": _of(FourierFTConfig, n_frequency=50, scaling=30.0, target_modules=ATTENTION),
    "adalora": lambda: AdaLoraConfig(
        init_r=4, target_r=2, total_step=10, target_modules=ATTENTION, task_type="CAUSAL_LM"
    ),
    "layer norms": _of(LNTuningConfig, target_modules=["input_layernorm", "norm"]),
}
"""Adapters that may leave a changed base when disabled."""

ADAPTERS: Mapping[str, Callable[[], Any]] = {**ADDITIVE, **OTHERS}


def load_base(folder: Path) -> PreTrainedModel:
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    return model


def untied_base(folder: Path) -> Path:
    """Save a random model with an untied head and attention biases, and return it."""
    tokenizer = AutoTokenizer.from_pretrained(sample_data() / "tiny-ref")
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    _shift({name: weight for name, weight in model.named_parameters() if name.endswith("bias")})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(name: str, base: Path, folder: Path, seed: int = 0) -> Path:
    """Save an adapter of a base under its name in a folder, trained by a random step, and return its path."""
    torch.manual_seed(seed)
    peft: Any = get_peft_model(load_base(base), ADAPTERS[name]())
    _shift({key: weight for key, weight in peft.named_parameters() if weight.requires_grad})
    return _written(peft, base, folder / f"{name}-{seed}")


def save_with_added_tokens(base: Path, folder: Path) -> Path:
    """Save a LoRA adapter whose training added tokens to its base and trained their embeddings; return its path."""
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens([f"<new{i}>" for i in range(NEW_TOKENS)])
    model = load_base(base)
    model.resize_token_embeddings(len(tokenizer))
    peft: Any = get_peft_model(model, _lora())
    weights = dict(peft.named_parameters())
    _shift({key: weight for key, weight in weights.items() if "lora_" in key or "embed_tokens" in key})
    path = _written(peft, base, folder / "added tokens")
    tokenizer.save_pretrained(path)
    return path


def _shift(weights: Mapping[str, torch.Tensor]) -> None:
    for weight in weights.values():
        weight.data += 0.05 * torch.randn_like(weight)


def _written(peft: Any, base: Path, path: Path) -> Path:
    peft.save_pretrained(str(path))
    file = path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(base)}))
    return path


def load_by_peft(adapter: Path, base: Path) -> Any:
    """Return the adapter on a new base, loaded as in PEFT's documentation."""
    model = load_base(base)
    if (adapter / "tokenizer_config.json").is_file():
        model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(adapter)))
    return PeftModel.from_pretrained(model, str(adapter)).eval()
