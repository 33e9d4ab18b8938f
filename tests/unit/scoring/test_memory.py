"""The memory bound that a run prints, compared with the memory that forward passes of the tiny policy use."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, PretrainedConfig

from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.engine import forward
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.head import (
    BYTES_A_LOGIT,
    CHUNK_LOGITS,
    CHUNK_LOGITS_GPU,
    MOST_LOGITS_GPU,
    inner_size,
    logits_at_once,
)
from prefscope.scoring.memory import LIBRARY_BYTES, SHARD_BYTES, bytes_beside_weights, resident_bytes
from prefscope.scoring.models import LanguageModel, load_config, load_model
from prefscope.scoring.self_check import follow
from prefscope.scoring.sequences import TokenSequence
from prefscope.settings import ModelSettings
from tests.numerics.families import changed

CPU = torch.device("cpu")
SHAPES = [(1, 1024), (2, 1024), (16, 128), (64, 32)]
"""Sequences and their length."""


def load(folder: Path, attn: str = "auto") -> LanguageModel:
    return load_model(Checkpoint("policy", folder), ModelSettings(str(folder), attn=attn), device=CPU, dtype="float32")


@pytest.fixture(scope="module")
def model(samples: Path) -> LanguageModel:
    return load(samples / "tiny-policy")


@pytest.fixture(scope="module")
def config(samples: Path) -> PretrainedConfig:
    return load_config(Checkpoint("policy", samples / "tiny-policy"), ModelSettings(""))


def sequences_of(rows: int, length: int) -> list[TokenSequence]:
    """Return unrelated sequences, three quarters of them scored."""
    drawn = np.random.default_rng(0).integers(5, 2000, size=(rows, length)).astype(np.int32)
    return [TokenSequence(ids, length // 4) for ids in drawn]


def peak_of(model: LanguageModel, path: ForwardMode, sequences: list[TokenSequence]) -> int:
    """Return the peak bytes of tensors in a forward pass, as counted by the allocator."""
    follow(model, path)
    forward(model, path, sequences)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        forward(model, path, sequences)
    assert watched.profiler is not None
    events = [event for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert events
    return int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max())


def bound(
    config: PretrainedConfig, rows: int, length: int, device: str = "cpu", *, width: int = 4, eager: bool = False
) -> int:
    """Return the bound for one forward pass, without libraries and windows."""
    whole = bytes_beside_weights(
        config, rows * length, length, device=torch.device(device), width=width, writes_scores=eager
    )
    return whole - LIBRARY_BYTES - SHARD_BYTES


@pytest.mark.parametrize("path", ["packed", "padded"])
@pytest.mark.parametrize(("rows", "length"), SHAPES)
def test_a_forward_pass_stays_below_the_memory_bound(
    model: LanguageModel, path: ForwardMode, rows: int, length: int
) -> None:
    taken = peak_of(model, path, sequences_of(rows, length))
    assert rows * length * 96 * 4 < taken <= bound(model.module.config, rows, length)


def test_a_forward_pass_with_eager_attention_stays_below_the_memory_bound(samples: Path) -> None:
    model = load(samples / "tiny-policy", "eager")
    taken = peak_of(model, "padded", sequences_of(2, 1024))
    assert bound(model.module.config, 2, 1024) < taken <= bound(model.module.config, 2, 1024, eager=True)


def test_the_bound_grows_with_the_tokens_of_a_forward_pass(config: PretrainedConfig) -> None:
    sizes = [bound(config, rows, 256) for rows in (0, 1, 2, 8, 128)]
    assert sizes == sorted(set(sizes))
    assert sizes[4] - sizes[1] == 127 * (sizes[2] - sizes[1])


def test_longer_sequences_need_more_memory_for_the_same_number_of_tokens(config: PretrainedConfig) -> None:
    assert bound(config, 1, 4096) > bound(config, 2, 2048)


def test_a_wider_dtype_needs_at_least_as_much_memory(config: PretrainedConfig) -> None:
    sizes = [bound(config, 2, 1024, width=width) for width in (2, 4, 8)]
    assert sizes == sorted(set(sizes))


def test_logits_need_more_memory_on_a_gpu_than_on_a_cpu(config: PretrainedConfig) -> None:
    assert bound(config, 2, 1024, "cuda") > bound(config, 2, 1024, "cpu")


def llama_8b() -> PretrainedConfig:
    return LlamaConfig(hidden_size=4096, intermediate_size=14336, vocab_size=128256)


def chunk(tokens: int, device: str = "cuda") -> int:
    return logits_at_once(llama_8b(), tokens, device=torch.device(device), width=2)


def test_a_cpu_computes_as_many_logits_at_once_for_any_pass() -> None:
    assert {chunk(tokens, "cpu") for tokens in (64, 2048, 32768)} == {CHUNK_LOGITS}


def test_a_gpu_computes_more_logits_at_once_in_larger_passes() -> None:
    sizes = [chunk(tokens) for tokens in (64, 8192, 16384, 32768)]
    assert sizes == sorted(sizes)
    assert sizes[0] == CHUNK_LOGITS_GPU < sizes[2] < sizes[3]
    assert chunk(1 << 20) == MOST_LOGITS_GPU


def test_logits_beyond_the_least_take_no_more_memory_than_the_layers_before_them() -> None:
    for tokens in (16384, 32768):
        assert chunk(tokens) * BYTES_A_LOGIT <= tokens * 3 * 14336 * 2


def test_the_widest_layer_counts() -> None:
    assert inner_size(changed(llama_8b(), intermediate_size=100)) == 100
    assert inner_size(SimpleNamespace(get_text_config=lambda: SimpleNamespace(intermediate_size=[7, 9]))) == 9  # type: ignore[arg-type]


def test_resident_bytes_count_parameters_and_buffers() -> None:
    module = nn.BatchNorm1d(10).to(torch.float64)
    assert resident_bytes(module) == 2 * 10 * 8 + 2 * 10 * 8 + 8  # and the count of batches
