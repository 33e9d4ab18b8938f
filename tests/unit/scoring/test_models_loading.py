"""Loading a checkpoint: complete and as trained, or refused with a message."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from prefscope.errors import ModelError
from prefscope.scoring import models as loading
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.models import LanguageModel, load_model, load_tokenizer, pick_device, pick_dtype
from prefscope.settings import Dtype, ModelSettings

CPU = torch.device("cpu")
Weights = dict[str, Tensor]
Edit = Callable[[Weights], Weights]


@pytest.fixture(name="full")
def _full(tmp_path: Path) -> Path:
    """Return a small random checkpoint."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "full")
    return tmp_path / "full"


def make_adapter(base: Path, config: LoraConfig | PromptTuningConfig) -> Path:
    """Return an adapter whose every weight has an effect."""
    adapter = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weight in adapter.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    folder = base.parent / "adapter"
    adapter.save_pretrained(str(folder))
    return folder


@pytest.fixture(name="adapter")
def _adapter(full: Path) -> Path:
    return make_adapter(full, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))


def edit(file: Path, change: Edit) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def load(folder: Path, base: Path | None = None) -> LanguageModel:
    checkpoint = Checkpoint(str(folder), folder, Checkpoint(str(base), base) if base is not None else None)
    return load_model(checkpoint, ModelSettings(str(folder)), device=CPU, dtype="float32")


def without(part: str) -> Edit:
    return lambda weights: {name: weight for name, weight in weights.items() if part not in name}


def renamed(before: str, after: str) -> Edit:
    return lambda weights: {name.replace(before, after, 1): weight for name, weight in weights.items()}


def test_a_loaded_model_is_in_evaluation_mode_and_in_the_requested_dtype(full: Path) -> None:
    model = load_model(Checkpoint("full", full), ModelSettings("full"), device=CPU, dtype="bfloat16")
    assert not model.module.training
    assert {weight.dtype for weight in model.module.parameters()} == {torch.bfloat16}


def test_an_adapter_changes_its_base_and_restores_it_when_disabled(full: Path, adapter: Path) -> None:
    base, model = load(full), load(adapter, full)
    ids = torch.arange(8)[None]
    checkpoint = Checkpoint("adapter", adapter, Checkpoint("full", full))
    with torch.no_grad():
        plain = base.module(input_ids=ids).logits
        with model.adapter_for(checkpoint):
            on = model.module(input_ids=ids).logits
        with model.adapter_for(checkpoint.full):
            off = model.module(input_ids=ids).logits
        with model.adapter_for(checkpoint):
            again = model.module(input_ids=ids).logits
    assert torch.equal(off, plain)
    assert torch.equal(again, on)
    assert not torch.allclose(on, plain, atol=1e-2)


@pytest.mark.parametrize(
    "change",
    [without("layers.1.mlp.up_proj"), renamed("", "_orig_mod."), renamed("model.layers", "model.module.layers")],
    ids=["a lost tensor", "a compiled model's names", "a wrapper's names"],
)
def test_a_checkpoint_with_missing_weights_is_refused(full: Path, change: Edit) -> None:
    edit(full / "model.safetensors", change)
    with pytest.raises(ModelError):
        load(full)


@pytest.mark.parametrize(
    "change",
    [without("layers.1"), renamed("base_model.model.model", "base_model.model.module.model")],
    ids=["a lost layer", "a wrapper's names"],
)
def test_an_adapter_with_missing_weights_is_refused(full: Path, adapter: Path, change: Edit) -> None:
    edit(adapter / "adapter_model.safetensors", change)
    with pytest.raises(ModelError):
        load(adapter, full)


def test_partially_copied_weights_are_refused(full: Path) -> None:
    file = full / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError):
        load(full)


def test_weights_whose_shape_differs_from_the_config_are_refused(full: Path) -> None:
    config = json.loads((full / "config.json").read_text())
    (full / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(ModelError, match="the model cannot be loaded"):
        load(full)


def test_a_model_of_an_unknown_type_is_refused(full: Path) -> None:
    (full / "config.json").write_text('{"model_type": "no_such_model"}')
    with pytest.raises(ModelError, match=f"^{re.escape(str(full))}: the config cannot be loaded"):
        loading.load_config(Checkpoint(str(full), full), ModelSettings(str(full)))


def test_an_adapter_of_virtual_tokens_is_refused(full: Path) -> None:
    adapter = make_adapter(full, PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    with pytest.raises(ModelError, match="PROMPT_TUNING puts virtual tokens before the prompt"):
        load(adapter, full)


@pytest.mark.parametrize(
    ("asked", "device", "stored", "picked"),
    [
        ("auto", "cpu", (torch.bfloat16,), "float32"),
        ("auto", "cuda", (torch.bfloat16,), "bfloat16"),
        ("auto", "cuda", (torch.float16, torch.float16), "float16"),
        ("auto", "cuda", (torch.bfloat16, torch.float32), "float32"),
        ("auto", "cuda", (torch.bfloat16, torch.float16), "float32"),
        ("auto", "cuda", (torch.float64,), "float64"),
        ("auto", "cpu", (torch.float64,), "float64"),
        ("auto", "mps", (torch.float64,), "float32"),
        ("bfloat16", "cpu", (torch.float32,), "bfloat16"),
    ],
)
def test_one_dtype_is_picked_for_both_models(
    tmp_path: Path, asked: Dtype, device: str, stored: tuple[torch.dtype, ...], picked: str
) -> None:
    checkpoints = []
    for i, dtype in enumerate(stored):
        (tmp_path / str(i)).mkdir()
        save_file({"weight": torch.zeros(4, dtype=dtype)}, tmp_path / str(i) / "model.safetensors")
        checkpoints.append(Checkpoint(str(i), tmp_path / str(i)))
    assert pick_dtype(asked, torch.device(device), checkpoints) == picked


@pytest.mark.parametrize("asked", ["cuda:99", "no such device"])
def test_a_missing_device_is_refused(asked: str) -> None:
    with pytest.raises(ModelError, match=rf"Device '{asked}' cannot be used \(.*\)\. Try --device cpu"):
        pick_device(asked)


def test_an_adapter_without_a_tokenizer_uses_that_of_its_base(samples: Path, tmp_path: Path) -> None:
    base = Checkpoint("base", samples / "tiny-policy")
    tokenizer = load_tokenizer(Checkpoint("adapter", tmp_path, base), ModelSettings("adapter"))
    assert tokenizer is not None
    assert tokenizer.eos_token == "<|end|>"  # noqa: S105 (a token of the vocabulary)


def test_an_adapter_with_only_a_tokenizer_config_uses_the_tokenizer_of_its_base(samples: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    base = Checkpoint("base", samples / "tiny-ref")
    tokenizer = load_tokenizer(Checkpoint("adapter", tmp_path, base), ModelSettings("adapter"))
    assert tokenizer is not None
    assert len(tokenizer) == 2048


def test_the_template_of_a_processor_is_used_if_the_tokenizer_has_none(samples: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((samples / "tiny-ref" / name).read_bytes())
    (tmp_path / "chat_template.json").write_text('{"chat_template": "{{ messages[0].content }}"}')
    tokenizer = load_tokenizer(Checkpoint("vision", tmp_path), ModelSettings("vision"))
    assert tokenizer is not None
    assert tokenizer.chat_template == "{{ messages[0].content }}"


def test_a_checkpoint_without_a_tokenizer_has_none(full: Path) -> None:
    assert load_tokenizer(Checkpoint("full", full), ModelSettings("full")) is None


def test_end_tokens_come_from_the_tokenizer_and_the_generation_config(
    full: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    eos = tiny_tokenizer.eos_token_id
    (full / "generation_config.json").write_text('{"eos_token_id": [40, 41]}')
    assert loading.end_tokens(Checkpoint("full", full), tiny_tokenizer) == {eos, 40, 41}
    (full / "generation_config.json").write_text('{"eos_token_id": 42}')
    assert loading.end_tokens(Checkpoint("full", full), tiny_tokenizer) == {eos, 42}


def test_tokenizers_of_equal_content_have_equal_hashes(samples: Path, tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    other = load_tokenizer(Checkpoint("ref", samples / "tiny-ref"), ModelSettings("ref"))
    assert other is not None
    assert loading.tokenizer_hash(other) == loading.tokenizer_hash(tiny_tokenizer)
    assert loading.differing_ids(other, tiny_tokenizer) == {}
    other.add_tokens(["<new>"])
    assert loading.tokenizer_hash(other) != loading.tokenizer_hash(tiny_tokenizer)
    assert loading.differing_ids(other, tiny_tokenizer) == {len(tiny_tokenizer): ("<new>", "")}


def test_a_custom_chat_template_has_its_own_hash(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    hashes = {loading.template_hash(tiny_tokenizer, template) for template in (None, "{{ messages }}", "other")}
    assert len(hashes) == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"no pickle", b"\x80\x04.", b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R.", b"PK\x03\x04cut off"],
    ids=["empty", "text", "nothing", "code", "zip"],
)
def test_invalid_pickled_weights_are_refused(full: Path, content: bytes) -> None:
    (full / "model.safetensors").unlink()
    (full / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ModelError, match="the model cannot be loaded: "):
        load_model(
            Checkpoint(str(full), full), ModelSettings(str(full), allow_pickle=True), device=CPU, dtype="float32"
        )
