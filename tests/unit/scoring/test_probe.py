"""The token budget of a GPU depends on its memory and the model alone, as a simulated caching allocator shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from prefscope.scoring import memory, probe
from prefscope.scoring.memory import available_bytes, is_out_of_memory
from prefscope.scoring.sequences import TokenSequence

GB, MB = 1 << 30, 1 << 20
CUDA = torch.device("cuda")


@dataclass
class Card:
    """A GPU whose allocator keeps freed memory, on which a forward pass takes memory and time by its tokens."""

    total: float
    weights: float
    per_token: float
    chunks: float = 0.8 * GB
    """The logits of a full chunk of the head."""
    seconds_per_token: float = 1e-4
    seconds_to_start: float = 0.0
    other_weights: float = 0.0
    """Of a model that is loaded later."""
    reserved: float = 0.0
    peak: float = 0.0
    clock: float = 0.0
    passes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reserved = max(self.reserved, self.weights)

    def forward(self, _model: Any, _path: str, rows: Sequence[TokenSequence]) -> None:
        tokens = sum(len(row.token_ids) for row in rows)
        needed = self.weights + min(tokens / 512, 1) * self.chunks + self.per_token * tokens
        self.clock += tokens * self.seconds_per_token + (0 if self.passes else self.seconds_to_start)
        if needed > self.total:
            self.reserved = self.total - GB / 4  # what was alive when it failed stays in the cache
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.passes.append(tokens)
        self.peak, self.reserved = needed, max(self.reserved, needed)

    def release(self) -> None:
        self.reserved = self.weights


def budget_of(card: Card, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(probe, "forward", card.forward)
    monkeypatch.setattr(probe, "context_of", lambda _: None)
    monkeypatch.setattr(probe, "time", SimpleNamespace(perf_counter=lambda: card.clock))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: int(card.peak))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: int(card.weights))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: int(card.reserved))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(card.total - card.reserved), int(card.total)))
    monkeypatch.setattr(torch.cuda, "empty_cache", card.release)
    model: Any = SimpleNamespace(device=CUDA, module=SimpleNamespace(config=None))
    ids = np.arange(1000, dtype=np.int32)
    found = probe.probe(model, "packed", ids, room=lambda: available_bytes(CUDA) - card.other_weights)
    return found.batch_tokens


def test_a_large_card_computes_as_many_tokens_as_pay_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget_of(Card(79 * GB, 14 * GB, 0.2 * MB), monkeypatch) == probe.MOST_TOKENS["cuda"]


def test_a_smaller_card_computes_what_fits_with_a_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(22 * GB, 14.5 * GB, 0.3 * MB)
    budget = budget_of(card, monkeypatch)
    assert budget == 8192
    assert card.chunks + budget * card.per_token < probe.SHARE_OF_FREE_MEMORY * (card.total - card.weights)


def test_running_out_of_memory_leaves_the_largest_pass_that_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget_of(Card(17 * GB, 14 * GB, 0.8 * MB), monkeypatch) == 1024
    assert budget_of(Card(17 * GB, 14 * GB, 8 * MB), monkeypatch) == probe.FIRST_TOKENS


def test_a_pass_that_does_not_fit_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        budget_of(Card(14.1 * GB, 14 * GB, 8 * MB), monkeypatch)


@pytest.mark.parametrize(("seconds_per_token", "seconds_to_start"), [(1e-6, 0.0), (1e-2, 0.0), (1e-4, 9.0)])
def test_the_budget_does_not_depend_on_the_clock(
    seconds_per_token: float, seconds_to_start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Card(22 * GB, 14.5 * GB, 0.3 * MB, seconds_per_token=seconds_per_token, seconds_to_start=seconds_to_start)
    assert budget_of(card, monkeypatch) == 8192


def test_memory_that_the_allocator_keeps_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget_of(Card(22 * GB, 14.5 * GB, 0.3 * MB, reserved=21.9 * GB), monkeypatch) == 8192


def test_room_for_a_model_that_is_loaded_later_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert budget_of(Card(44 * GB, 14.5 * GB, 0.3 * MB, other_weights=14.5 * GB), monkeypatch) == 16384
    assert budget_of(Card(44 * GB, 14.5 * GB, 0.3 * MB), monkeypatch) == 32768


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("indices should be on the same device"), False),
    ],
)
def test_running_out_of_memory_is_recognised_in_every_spelling(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_cache_of_a_device_is_emptied(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    memory.release_cached(torch.device(kind))
    memory.release_cached(torch.device("cpu"))
    assert emptied == [kind]
