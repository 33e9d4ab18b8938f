"""Folders without a loadable language model, and pairs of checkpoints that look like a mistake."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from prefscope.errors import ModelError, PrefscopeError
from prefscope.scoring.checkpoints import resolve, weight_files
from prefscope.scoring.headers import num_weights, stored_dtype
from prefscope.scoring.inspection import Oddity, inspect
from prefscope.settings import ModelSettings

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"


def write(folder: Path, files: Mapping[str, str | Mapping[str, tuple[int, ...]]]) -> Path:
    """Write texts, and weights as zeros of some shapes, into a folder and return it."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            file.write_text(content)
        else:
            save_file({key: torch.zeros(shape) for key, shape in content.items()}, file)
    return folder


def model(
    folder: Path, architecture: str = "LlamaForCausalLM", weights: Mapping[str, tuple[int, ...]] | None = None
) -> Path:
    config = json.dumps({"model_type": "llama", "architectures": [architecture]})
    return write(folder, {"config.json": config, "model.safetensors": weights or {"model.norm.weight": (4,)}})


def adapter(folder: Path, base: Path | str, **config: object) -> Path:
    record = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base), **config}
    weights = {"base_model.model.q_proj.lora_A.weight": (2, 4), "base_model.model.q_proj.lora_B.weight": (4, 2)}
    return write(folder, {"adapter_config.json": json.dumps(record), "adapter_model.safetensors": weights})


def inspected(policy: Path, ref: Path | str = "none") -> tuple[Oddity, ...]:
    return inspect(*resolve(ModelSettings(str(policy), str(ref)), lambda _: None))


def weights_of(policy: Path) -> list[Path]:
    checkpoint, _ = resolve(ModelSettings(str(policy), "none"), lambda _: None)
    return weight_files(checkpoint, allow_pickle=False)


def test_two_language_models_have_no_oddities(tmp_path: Path) -> None:
    assert inspected(model(tmp_path / "policy"), model(tmp_path / "ref")) == ()


@pytest.mark.parametrize(
    "architecture",
    [
        *(
            "LlamaForSequenceClassification",
            "Qwen2ForTokenClassification",
            "BertForMaskedLM",
            "LlamaForQuestionAnswering",
        ),
        *("LlamaRewardModel", "InternLM2ForRewardModel", "LlamaForScore", "AutoModelForCausalLMWithValueHead"),
    ],
)
def test_a_reward_model_or_classifier_is_refused_by_its_architecture(architecture: str, tmp_path: Path) -> None:
    policy = model(tmp_path / "policy", architecture)
    with pytest.raises(ModelError, match=re.escape(f"(architectures: {architecture}), which has no log-probs of text")):
        inspected(policy)


@pytest.mark.parametrize("head", ["score.weight", "v_head.weight", "value_head.bias", "classifier.dense.weight"])
def test_a_reward_model_that_calls_itself_a_language_model_is_refused_by_its_head(head: str, tmp_path: Path) -> None:
    policy = model(tmp_path / "policy", weights={"model.norm.weight": (4,), head: (1, 4)})
    with pytest.raises(ModelError, match=re.escape(f"its head is {head}")):
        inspected(model(tmp_path / "ref"), policy)


def test_a_language_model_with_a_value_head_beside_it_is_warned_about(tmp_path: Path) -> None:
    weights = {"model.norm.weight": (4,), "v_head.summary.weight": (1, 4), "v_head.summary.bias": (1,)}
    assert [oddity.name for oddity in inspected(model(tmp_path / "policy", weights=weights))] == ["value_head"]


def test_a_value_head_in_a_separate_file_is_found_beside_an_adapter_too(tmp_path: Path) -> None:
    policy = adapter(tmp_path / "policy", model(tmp_path / "base"))
    write(policy, {"value_head.safetensors": {"v_head.summary.weight": (1, 4)}})
    assert [oddity.name for oddity in inspected(policy)] == ["value_head"]


def test_a_reward_model_is_refused_by_the_shape_of_its_head(tmp_path: Path) -> None:
    policy = model(tmp_path / "policy", weights={"model.embed_tokens.weight": (64, 4), "lm_head.weight": (1, 4)})
    with pytest.raises(ModelError, match="its head has 1 outputs"):
        inspected(policy)


@pytest.mark.parametrize(
    "name", ["base_model.model.score.weight", "base_model.model.classifier.modules_to_save.weight"]
)
def test_an_adapter_with_a_score_head_is_refused(name: str, tmp_path: Path) -> None:
    policy = adapter(tmp_path / "policy", model(tmp_path / "base"), task_type=None)
    write(policy, {"adapter_model.safetensors": {name: (1, 4)}})
    with pytest.raises(ModelError, match=re.escape(f"(it stores {name})")):
        inspected(policy)


def test_a_base_that_is_a_classifier_is_refused_for_its_adapter(tmp_path: Path) -> None:
    base = model(tmp_path / "base", "LlamaForSequenceClassification")
    with pytest.raises(ModelError, match=f"^{re.escape(str(base))}: this is a reward model"):
        inspected(adapter(tmp_path / "policy", base))


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "SEQ_2_SEQ_LM", "FEATURE_EXTRACTION"])
def test_an_adapter_of_another_task_is_refused(task: str, tmp_path: Path) -> None:
    policy = adapter(tmp_path / "policy", model(tmp_path / "base"), task_type=task)
    with pytest.raises(ModelError, match=rf"\(task_type {task}\), which has no log-probs"):
        inspected(policy)


@pytest.mark.parametrize("inner", [False, True], ids=["of a text model", "of the text part"])
def test_a_config_with_more_layers_than_weights_is_refused(*, inner: bool, tmp_path: Path) -> None:
    policy = model(tmp_path / "policy")
    layers = {"num_hidden_layers": 10**9}
    (policy / "config.json").write_text(json.dumps({"text_config": layers} if inner else layers))
    with pytest.raises(ModelError, match=r"its config has 1,000,000,000 layers, more than there are weights \(1\)"):
        inspected(policy)


@pytest.mark.parametrize("architectures", [5, 0.5, True, "LlamaForCausalLM", {"a": 1}], ids=str)
def test_a_config_without_a_list_of_architectures_is_refused(architectures: object, tmp_path: Path) -> None:
    policy = model(tmp_path / "policy")
    (policy / "config.json").write_text(json.dumps({"architectures": architectures}))
    with pytest.raises(ModelError, match="architectures in its config is"):
        inspected(policy)


def test_empty_weights_saved_by_zero_3_are_reported(tmp_path: Path) -> None:
    policy = model(tmp_path / "policy", weights={"model.norm.weight": (4,), "model.layers.0.q.weight": (0,)})
    with pytest.raises(
        ModelError, match=r"1 weights are empty, the first is model\.layers\.0\.q\.weight: DeepSpeed ZeRO-3"
    ):
        inspected(policy)


def test_a_truncated_file_is_reported_with_its_size(tmp_path: Path) -> None:
    policy = model(tmp_path / "policy", weights={"model.norm.weight": (400,)})
    file = policy / "model.safetensors"
    whole = file.stat().st_size
    os.truncate(file, whole - 100)
    with pytest.raises(ModelError, match=f"it has {whole - 100:,} of {whole:,} bytes"):
        inspected(policy)


@pytest.mark.parametrize(
    "header", ["[]", "{}}", '{"a": 5}', '{"a": {"data_offsets": "x"}}', '{"a": {"data_offsets": [0]}}', "[" * 90_000]
)
def test_an_invalid_header_is_refused(header: str, tmp_path: Path) -> None:
    policy = model(tmp_path / "policy")
    (policy / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(ModelError, match="this safetensors file is incomplete or damaged"):
        inspected(policy)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer.model"])
def test_a_git_lfs_pointer_is_reported(file: str, tmp_path: Path) -> None:
    policy = write(model(tmp_path / "policy"), {file: POINTER})
    with pytest.raises(ModelError, match=rf"{file}: this file is a Git LFS pointer.*git lfs pull"):
        inspected(policy)


STEPS = {f"checkpoint-{step}/config.json": "{}" for step in (50, 100, 1000)}


@pytest.mark.parametrize(
    ("files", "what", "hint"),
    [
        (STEPS, "is the output folder of a training run", "/checkpoint-50, "),
        ({**STEPS, "config.json": "{}"}, "is the output folder of a training run", "/checkpoint-1000."),
        ({"global_step10/zero_pp_rank_0_mp_rank_00_optim_states.pt": "x"}, "has DeepSpeed shards", "zero_to_fp32.py"),
        ({"config.json": "{}", "global_step10/mp_rank_00_model_states.pt": "x"}, "DeepSpeed shards", "zero_to_fp32.py"),
        ({"__0_0.distcp": "x", ".metadata": "x"}, "has FSDP shards", "accelerate merge-weights"),
        ({"config.json": "{}", "pytorch_model_fsdp_0/__0_0.distcp": "x"}, "FSDP shards", "accelerate merge-weights"),
        ({"README.md": "x"}, "is not a checkpoint", "save_pretrained"),
    ],
)
def test_a_folder_without_weights_is_reported_with_advice(
    files: Mapping[str, str], what: str, hint: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=what) as refused:
        weights_of(write(tmp_path / "policy", files))
    assert hint in refused.value.hint


def test_checkpoints_of_a_training_run_are_listed_by_step(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"checkpoint-50, .*checkpoint-100, .*checkpoint-1000\.$"):
        weights_of(write(tmp_path / "policy", STEPS))


@pytest.mark.parametrize("recorded", ["policy", "policy/../policy", "./policy"])
def test_an_adapter_that_names_itself_as_its_base_is_refused(
    recorded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="names itself as its base"):
        inspected(adapter(tmp_path / "policy", recorded))


def test_adapters_that_name_each_other_as_base_are_refused(tmp_path: Path) -> None:
    other = adapter(tmp_path / "other", tmp_path / "policy")
    with pytest.raises(ModelError, match="is itself an adapter"):
        inspected(adapter(tmp_path / "policy", other))


def test_an_adapter_is_refused_as_the_base_option_too(tmp_path: Path) -> None:
    policy = adapter(tmp_path / "policy", model(tmp_path / "base"))
    with pytest.raises(PrefscopeError, match="is itself an adapter"):
        resolve(ModelSettings(str(policy), "none", base=str(policy)), lambda _: None)


def test_the_base_as_policy_of_its_own_adapter_looks_swapped(tmp_path: Path) -> None:
    base = model(tmp_path / "base")
    (oddity,) = inspected(base, adapter(tmp_path / "lora", base))
    assert (oddity.name, oddity.what) == (
        "swapped",
        f"The policy, {base}, is the base of its reference, {tmp_path / 'lora'}",
    )


INDEX = json.dumps({"weight_map": {"model.norm.weight": "model-00001-of-00001.safetensors"}})


def with_shards(folder: Path, age: int) -> Path:
    """Return a model with shards beside its weights that are `age` seconds newer."""
    shards: dict[str, str | Mapping[str, tuple[int, ...]]] = {
        "model.safetensors.index.json": INDEX,
        "model-00001-of-00001.safetensors": {"model.norm.weight": (4,)},
    }
    path = write(model(folder), shards)
    now = (path / "model.safetensors").stat().st_mtime
    os.utime(path / "model.safetensors.index.json", (now + age, now + age))
    return path


@pytest.mark.parametrize(("age", "newer"), [(60, "newer"), (-60, "older")])
def test_a_single_file_beside_shards_is_reported_and_used(age: int, newer: str, tmp_path: Path) -> None:
    policy = with_shards(tmp_path / "policy", age)
    (oddity,) = inspected(policy)
    assert oddity.name == "stale_weights"
    assert f"both model.safetensors and {newer} shards" in oddity.what
    checkpoint, _ = resolve(ModelSettings(str(policy), "none"), lambda _: None)
    assert weights_of(policy) == [policy / "model.safetensors"]
    assert num_weights(checkpoint) == 4


def test_adapter_weights_in_a_base_folder_do_not_count_as_base_weights(tmp_path: Path) -> None:
    base = write(model(tmp_path / "base"), {"adapter_model.safetensors": {"base_model.lora_A.weight": (8, 8)}})
    checkpoint, _ = resolve(ModelSettings(str(base), "none"), lambda _: None)
    assert (num_weights(checkpoint), stored_dtype(checkpoint)) == (4, "float32")


def test_every_oddity_states_its_consequence(tmp_path: Path) -> None:
    base = with_shards(tmp_path / "base", 60)
    lora = adapter(tmp_path / "lora", base, bias="all")
    makers: list[Callable[[], tuple[Oddity, ...]]] = [lambda: inspected(base, lora), lambda: inspected(lora, "base")]
    found = {oddity.name: oddity.follows for make in makers for oddity in make()}
    assert sorted(found) == ["adapter_base", "stale_weights", "swapped"]
    assert all(follows.endswith(".") for follows in found.values())
