"""How many tokens a forward pass should have on this device, and how fast it is: found once for a model.

The budget follows from the kind of device and its free memory alone, never from a clock, so that two runs on one
machine compute the same batches and so the same digits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from prefscope.scoring.engine import Path, forward
from prefscope.scoring.memory import available_bytes
from prefscope.scoring.models import LanguageModel, context_of
from prefscope.scoring.sequences import TokenSequence

MOST_TOKENS = {"cpu": 2048, "mps": 8192, "cuda": 32768}
"""More gains nothing: on a CPU activations leave the cache, on a GPU the products are as fast as they get."""
FEWEST_TOKENS = 256
FIRST_TOKENS = 64
LONGEST = 512
ENOUGH_SECONDS = 0.5
SHARE_OF_FREE_MEMORY = 0.6


@dataclass(frozen=True, slots=True)
class Budget:
    """What a forward pass may be, and how fast one was."""

    batch_tokens: int
    tokens_per_second: float


def probe(model: LanguageModel, path: Path, token_ids: NDArray[np.int32]) -> Budget:
    """Return the budget of a model, from a few forward passes of growing size.

    Args:
        model: A loaded model whose attention is that of the path.
        path: How it is computed.
        token_ids: Some tokens of the data set, of which the probes are made.
    """
    most = MOST_TOKENS.get(model.device.type, MOST_TOKENS["cpu"])
    tokens, seconds, bytes_a_token = FIRST_TOKENS, 0.0, 0.0
    while True:
        rows = _rows(token_ids, tokens, context_of(model.module.config))
        before = _start_counting(model.device)
        started = time.perf_counter()
        forward(model, path, rows)
        seconds = time.perf_counter() - started
        bytes_a_token = _peak_bytes(model.device, before) / tokens
        if seconds > ENOUGH_SECONDS or tokens * 2 > most:
            break
        tokens *= 2
    if bytes_a_token:
        room = SHARE_OF_FREE_MEMORY * available_bytes(model.device) / bytes_a_token
        most = min(most, 1 << max(int(room).bit_length() - 1, 0))
    return Budget(max(most, FEWEST_TOKENS), tokens / seconds)


def _rows(token_ids: NDArray[np.int32], tokens: int, context: int | None) -> list[TokenSequence]:
    """Return unrelated sequences of so many tokens in all, three quarters of them scored."""
    length = min(tokens, LONGEST, context or LONGEST)
    drawn = np.random.default_rng(0).choice(np.unique(token_ids), size=(max(tokens // length, 1), length))
    return [TokenSequence(ids.astype(np.int32), length // 4) for ids in drawn]


def _start_counting(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _peak_bytes(device: torch.device, before: int) -> int:
    """Return what a forward pass took at its peak; 0 where the device does not tell."""
    return torch.cuda.max_memory_allocated(device) - before if device.type == "cuda" else 0
