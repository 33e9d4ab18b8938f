"""A checkpoint's weight files, and a fingerprint of their content."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prefscope.errors import ModelError
from prefscope.scoring.checkpoints import Checkpoint, fingerprint, weight_files
from prefscope.scoring.store import LogpStore
from tests.unit.scoring.checkpoint_folders import make_adapter, make_checkpoint


def fingerprint_of(checkpoint: Checkpoint) -> str:
    """Return the fingerprint without using cached hashes."""
    with LogpStore(None) as store:
        return fingerprint(checkpoint, store, allow_pickle=False, progress=lambda _done, _total: None)


def files_read(checkpoint: Checkpoint, store: LogpStore) -> int:
    """Return the number of file parts that a fingerprint had to read."""
    read: list[int] = []
    fingerprint(checkpoint, store, allow_pickle=False, progress=lambda done, _total: read.append(done))
    return len(read)


def test_pickled_weights_are_refused_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ModelError, match="pass --allow-pickle if you trust them"):
        weight_files(Checkpoint("model", tmp_path), allow_pickle=False)
    assert weight_files(Checkpoint("model", tmp_path), allow_pickle=True) == [tmp_path / "pytorch_model.bin"]


def test_safetensors_are_preferred_to_pickled_weights(tmp_path: Path) -> None:
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


def test_the_fingerprint_of_an_adapter_differs_from_its_base_and_depends_on_it(tmp_path: Path) -> None:
    base = make_checkpoint(tmp_path / "base", {torch.float32: 10})
    other = make_checkpoint(tmp_path / "other", {torch.float32: 11})
    adapter = make_adapter(tmp_path / "adapter", base)
    moved = Checkpoint("adapter", adapter.path, other)
    assert len({fingerprint_of(checkpoint) for checkpoint in (base, adapter, moved)}) == 3


@pytest.mark.parametrize(("init", "count"), [("pissa", 2), ("olora", 2), ("gaussian", 1)])
def test_an_adapter_that_replaces_weights_of_its_base_has_a_fingerprint_for_each_release_of_peft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: str, count: int
) -> None:
    base = make_checkpoint(tmp_path / "base", {torch.float32: 10})
    adapter = make_adapter(tmp_path / "adapter", base)
    (adapter.path / "adapter_config.json").write_text(f'{{"init_lora_weights": "{init}"}}')
    found = set()
    for version in ("0.21.2", "0.22.0"):
        monkeypatch.setattr("importlib.metadata.version", lambda _name, version=version: version)
        found.add(fingerprint_of(adapter))
    assert len(found) == count


def test_a_hashed_file_is_not_read_again(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    with LogpStore(tmp_path / "logps.sqlite") as store:
        assert [files_read(checkpoint, store) for _ in range(2)] == [2, 0]


def test_a_file_with_another_mtime_is_read_again(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    with LogpStore(tmp_path / "logps.sqlite") as store:
        files_read(checkpoint, store)
        os.utime(checkpoint.path / "model.safetensors", ns=(1, 1))
        assert [files_read(checkpoint, store) for _ in range(2)] == [1, 0]


def test_a_file_with_another_size_is_read_again(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "model", {torch.float32: 10})
    config = checkpoint.path / "config.json"
    with LogpStore(tmp_path / "logps.sqlite") as store:
        files_read(checkpoint, store)
        time = config.stat().st_mtime_ns
        config.write_text('{"a": 1}')
        os.utime(config, ns=(time, time))
        assert files_read(checkpoint, store) == 1
