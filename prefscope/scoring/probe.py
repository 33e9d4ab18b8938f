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

from prefscope.scoring.context import context_of
from prefscope.scoring.engine import forward, is_out_of_memory
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.memory import available_bytes
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.sequences import TokenSequence

MOST_TOKENS = {"cpu": 2048, "mps": 8192, "cuda": 32768}
"""More gains nothing: on a CPU activations leave the cache, on a GPU the products are as fast as they get."""
FEWEST_TOKENS = 256
OPERATIONS_ON_CPU = 8e12
"""Of one forward pass at most: half a minute of two cores, so that little is lost when a run is interrupted."""
FIRST_TOKENS = 64
LONGEST = 512
ENOUGH_SECONDS = 0.5
SHARE_OF_FREE_MEMORY = 0.6


@dataclass(frozen=True, slots=True)
class Budget:
    """What a forward pass may be, and how fast one was."""

    batch_tokens: int
    tokens_per_second: float


def probe(model: LanguageModel, path: ForwardMode, token_ids: NDArray[np.int32]) -> Budget:
    """Return the budget of a model, from a few forward passes of growing size.

    Args:
        model: A loaded model whose attention is that of the path.
        path: How it is computed.
        token_ids: Some tokens of the data set, of which the probes are made.

    Raises:
        torch.OutOfMemoryError: Not even the shortest pass fits into memory.
    """
    most = MOST_TOKENS.get(model.device.type, MOST_TOKENS["cpu"])
    if model.device.type == "cpu":
        weights = sum(parameter.numel() for parameter in model.module.parameters())
        most = min(most, _power_of_two(OPERATIONS_ON_CPU / (2 * weights)))
    tokens, taken = FIRST_TOKENS, _try(model, path, token_ids, FIRST_TOKENS)
    while taken.seconds < ENOUGH_SECONDS and tokens * 2 <= most:
        try:
            tokens, taken = tokens * 2, _try(model, path, token_ids, tokens * 2)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            most = tokens
    if taken.peak_bytes:
        room = SHARE_OF_FREE_MEMORY * available_bytes(model.device)
        most = min(most, _power_of_two(room / taken.peak_bytes * tokens))
    return Budget(max(most, min(tokens, FEWEST_TOKENS)), tokens / taken.seconds)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a forward pass took; no bytes where the device does not tell."""

    seconds: float
    peak_bytes: int


def _try(model: LanguageModel, path: ForwardMode, token_ids: NDArray[np.int32], tokens: int) -> _Taken:
    rows = _rows(token_ids, tokens, context_of(model.module.config))
    before = 0
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(model.device)
        before = torch.cuda.memory_allocated(model.device)
    started = time.perf_counter()
    forward(model, path, rows)
    seconds = time.perf_counter() - started
    return _Taken(seconds, torch.cuda.max_memory_allocated(model.device) - before if before else 0)


def _power_of_two(most: float) -> int:
    """Return the largest power of two up to a number: small changes of free memory then change nothing."""
    return 1 << max(int(most).bit_length() - 1, 0)


def _rows(token_ids: NDArray[np.int32], tokens: int, context: int | None) -> list[TokenSequence]:
    """Return unrelated sequences of so many tokens in all, three quarters of them scored."""
    length = min(tokens, LONGEST, context or LONGEST)
    drawn = np.random.default_rng(0).choice(np.unique(token_ids), size=(max(tokens // length, 1), length))
    return [TokenSequence(ids.astype(np.int32), length // 4) for ids in drawn]
