"""Checkpoint folders of a few known weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from prefscope.scoring.checkpoints import Checkpoint

Sizes = Mapping[torch.dtype, int]


def save_checkpoint(folder: Path, *shards: Mapping[str, Tensor]) -> Checkpoint:
    """Return a checkpoint whose files contain these weights."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    for i, weights in enumerate(shards):
        save_file(dict(weights), folder / f"model-{i}.safetensors", metadata={"format": "pt"})
    return Checkpoint(str(folder), folder)


def make_checkpoint(folder: Path, sizes: Sizes) -> Checkpoint:
    """Return a checkpoint of one file, with a weight of a number of values for each dtype."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    weights = {f"weight_{i}": torch.zeros(size, dtype=dtype) for i, (dtype, size) in enumerate(sizes.items())}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return Checkpoint(str(folder), folder)


def make_adapter(folder: Path, base: Checkpoint) -> Checkpoint:
    """Return an adapter on a base."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base.path)}))
    save_file({"lora": torch.ones(3)}, folder / "adapter_model.safetensors")
    return Checkpoint(str(folder), folder, base)
