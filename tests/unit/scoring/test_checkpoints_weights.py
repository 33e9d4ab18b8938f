"""What a checkpoint's files say of its weights: their dtype, and a fingerprint of their content."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import Checkpoint, fingerprint, stored_dtype, weight_files
from prefscope.scoring.store import LogpStore

Sizes = dict[torch.dtype, int]


def make_checkpoint(folder: Path, sizes: Sizes) -> Checkpoint:
    """Return a checkpoint with a weight of so many values of each dtype."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    weights = {f"weight_{i}": torch.zeros(size, dtype=dtype) for i, (dtype, size) in enumerate(sizes.items())}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint(str(folder), folder)


def make_adapter(folder: Path, base: Checkpoint) -> Checkpoint:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base.path)}))
    save_file({"lora": torch.ones(3)}, folder / "adapter_model.safetensors")
    return Checkpoint(str(folder), folder, base)


def fingerprint_of(checkpoint: Checkpoint) -> str:
    """Return the fingerprint, with nothing remembered from before."""
    with LogpStore(None) as store:
        return fingerprint(checkpoint, store, allow_pickle=False, progress=lambda _done, _total: None)


def files_read(checkpoint: Checkpoint, store: LogpStore) -> int:
    """Return how many parts of files a fingerprint had to read."""
    read: list[int] = []
    fingerprint(checkpoint, store, allow_pickle=False, progress=lambda done, _total: read.append(done))
    return len(read)


@pytest.mark.parametrize(
    ("sizes", "dtype"),
    [
        ({torch.float32: 10}, "float32"),
        ({torch.bfloat16: 10}, "bfloat16"),
        ({torch.float16: 10}, "float16"),
        ({torch.float64: 10}, "float64"),
        ({torch.bfloat16: 500, torch.float32: 500}, "float32"),
        ({torch.bfloat16: 9900, torch.float32: 100}, "float32"),
        ({torch.bfloat16: 9901, torch.float32: 99}, "bfloat16"),
        ({torch.bfloat16: 100, torch.int64: 5000}, "bfloat16"),
        ({torch.int8: 100}, "float32"),
    ],
)
def test_the_stored_dtype_is_the_widest_that_holds_a_hundredth_of_the_weights(
    tmp_path: Path, sizes: Sizes, dtype: str
) -> None:
    assert stored_dtype(make_checkpoint(tmp_path / "model", sizes)) == dtype


def test_the_stored_dtype_is_that_of_all_shards_together(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.bfloat16: 10})
    save_file({"more": torch.zeros(10)}, checkpoint.path / "model-2.safetensors")
    assert stored_dtype(checkpoint) == "float32"


def test_the_stored_dtype_of_an_adapter_is_its_bases(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", {torch.bfloat16: 10})
    assert stored_dtype(make_adapter(tmp_path / "adapter", base)) == "bfloat16"


def test_gguf_weights_count_as_float32(tmp_path: Path) -> None:
    assert stored_dtype(Checkpoint("model", tmp_path / "model.gguf")) == "float32"


@pytest.mark.parametrize("kept", [4, 20], ids=["no header", "half a header"])
def test_weights_that_are_cut_off_are_refused(tmp_path: Path, kept: int) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    file = checkpoint.path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match="this is no whole safetensors file"):
        stored_dtype(checkpoint)


def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    (checkpoint.path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ModelError, match="this is no whole safetensors file"):
        stored_dtype(checkpoint)


def test_pickled_weights_are_refused_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="pass --allow-pickle if you trust them"):
        weight_files(Checkpoint("model", tmp_path), allow_pickle=False)
    assert weight_files(Checkpoint("model", tmp_path), allow_pickle=True) == [tmp_path / "pytorch_model.bin"]


def test_safetensors_go_before_pickled_weights(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    (checkpoint.path / "training_args.bin").write_bytes(b"pickle")
    assert weight_files(checkpoint, allow_pickle=True) == [checkpoint.path / "model.safetensors"]


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there are no weights"):
        weight_files(Checkpoint("model", tmp_path), allow_pickle=True)


def test_a_copy_has_the_fingerprint_of_its_original(samples: Path, tmp_path: Path) -> None:
    shutil.copytree(samples / "tiny-policy", tmp_path / "copy")
    original = Checkpoint("tiny-policy", samples / "tiny-policy")
    assert fingerprint_of(Checkpoint("copy", tmp_path / "copy")) == fingerprint_of(original)


def test_one_changed_weight_changes_the_fingerprint(samples: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint("copy", tmp_path / "copy")
    shutil.copytree(samples / "tiny-policy", checkpoint.path)
    before = fingerprint_of(checkpoint)
    weights = load_file(checkpoint.path / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1e-3
    save_file(weights, checkpoint.path / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint_of(checkpoint) != before


def test_another_config_changes_the_fingerprint(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    before = fingerprint_of(checkpoint)
    (checkpoint.path / "config.json").write_text('{"logit_scale": 2}')
    assert fingerprint_of(checkpoint) != before


def test_an_adapter_has_another_fingerprint_than_its_base_and_on_another_base(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", {torch.float32: 10})
    other = make_checkpoint(tmp_path / "other", {torch.float32: 11})
    adapter = make_adapter(tmp_path / "adapter", base)
    moved = Checkpoint("adapter", adapter.path, other)
    assert len({fingerprint_of(checkpoint) for checkpoint in (base, adapter, moved)}) == 3


def test_a_file_that_was_hashed_is_not_read_again(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    with LogpStore(tmp_path / "logps.sqlite") as store:
        assert [files_read(checkpoint, store) for _ in range(2)] == [2, 0]


def test_a_file_of_another_time_is_read_again(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    with LogpStore(tmp_path / "logps.sqlite") as store:
        files_read(checkpoint, store)
        os.utime(checkpoint.path / "model.safetensors", ns=(1, 1))
        assert [files_read(checkpoint, store) for _ in range(2)] == [1, 0]


def test_a_file_of_another_size_is_read_again(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    config = checkpoint.path / "config.json"
    with LogpStore(tmp_path / "logps.sqlite") as store:
        files_read(checkpoint, store)
        time = config.stat().st_mtime_ns
        config.write_text('{"a": 1}')
        os.utime(config, ns=(time, time))
        assert files_read(checkpoint, store) == 1
