"""Checkpoints of every kind give the numbers of the same weights as safetensors, or say why they cannot be loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file

from prefscope import Ledger, sample_data, score
from prefscope.errors import ModelError
from prefscope.settings import ComputeSettings, DataSettings

pytestmark = pytest.mark.slow

PAIRS = 6
Score = Callable[..., Ledger]


@pytest.fixture
def score_few(tmp_path: Path) -> Score:
    """Return a function that scores a few bundled pairs with a policy and a reference."""

    def run(policy: Path, ref: Path | None = None) -> Ledger:
        return score(
            sample_data() / "pairs.jsonl",
            policy,
            ref if ref is not None else sample_data() / "tiny-ref",
            data_settings=DataSettings("", limit=PAIRS),
            compute=ComputeSettings(cache_dir=str(tmp_path / "cache")),
            output=tmp_path / f"{policy.name}.parquet",
        )

    return run


def write_gguf(folder: Path, path: Path) -> None:
    """Write a Llama checkpoint folder as a GGUF file with unquantized weights."""
    gguf = pytest.importorskip("gguf", reason="the gguf extra is not installed")
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    special = {token["id"] for token in tokenizer["added_tokens"]}
    vocabulary = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([piece for piece, _ in vocabulary])
    writer.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for _, i in vocabulary])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    writer.add_chat_template((folder / "chat_template.jinja").read_text())
    for name, tensor in load_file(folder / "model.safetensors").items():
        writer.add_tensor(gguf_name(name), for_gguf(name, tensor, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """Return the GGUF name of a tensor of a Hugging Face Llama."""
    for theirs, ours in (
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("model.layers", "blk"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("self_attn.o_proj", "attn_output"),
        ("mlp.gate_proj", "ffn_gate"),
        ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"),
        ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attn_norm"),
    ):
        name = name.replace(theirs, ours)
    return name


def for_gguf(name: str, tensor: NDArray[np.float32], config: dict[str, int]) -> NDArray[np.float32]:
    """Return a tensor as llama.cpp keeps it: query and key rows interleaved for its rotary embedding."""
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    count = next((heads[key] for key in heads if key in name), None)
    if count is None:
        return tensor
    rows, columns = tensor.shape
    return tensor.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def test_a_gguf_file_gives_the_log_probs_of_the_same_weights_in_a_folder(score_few: Score, tmp_path: Path) -> None:
    path = tmp_path / "tiny-policy.gguf"
    write_gguf(sample_data() / "tiny-policy", path)
    from_gguf, from_folder = score_few(path), score_few(sample_data() / "tiny-policy")
    for name in ("policy_chosen_logps", "policy_rejected_logps", "chosen_num_tokens"):
        np.testing.assert_allclose(from_gguf.stored[name], from_folder.stored[name], rtol=1e-5, atol=1e-3)


def test_a_quantized_checkpoint_whose_package_is_missing_is_refused_with_the_reason(
    score_few: Score, tmp_path: Path
) -> None:
    folder = tmp_path / "quantized"
    shutil.copytree(sample_data() / "tiny-policy", folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="quantized"):
        score_few(folder)


def test_bfloat16_weights_are_computed_in_float32_on_a_cpu(score_few: Score, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    folder = tmp_path / "half"
    shutil.copytree(sample_data() / "tiny-policy", folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    manifest = score_few(folder).manifest
    assert manifest["models"]["policy"]["stored_dtype"] == "bfloat16"
    assert manifest["compute"]["dtype"] == "float32"


@pytest.mark.parametrize(("package", "extra"), [("peft", "peft"), ("gguf", "gguf")])
def test_a_missing_extra_is_one_line_that_names_the_install_command(package: str, extra: str, tmp_path: Path) -> None:
    policy = tmp_path / "policy.gguf"
    if package == "gguf":
        write_gguf(sample_data() / "tiny-policy", policy)
    else:
        policy = tmp_path / "adapter"
        policy.mkdir()
        record = {"peft_type": "LORA", "base_model_name_or_path": str(sample_data() / "tiny-ref")}
        (policy / "adapter_config.json").write_text(json.dumps(record))
        shutil.copy(sample_data() / "tiny-ref" / "model.safetensors", policy / "adapter_model.safetensors")
    blocked = f"import sys; sys.modules[{package!r}] = None; from prefscope.cli import main; main(sys.argv[1:])"
    command = [
        "score",
        str(sample_data() / "pairs.jsonl"),
        "--policy",
        str(policy),
        "--ref",
        str(sample_data() / "tiny-ref"),
    ]
    answer = subprocess.run(
        [sys.executable, "-c", blocked, *command, "--limit", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert f"pip install 'prefscope[{extra}]'" in answer.stderr.splitlines()[-1]
