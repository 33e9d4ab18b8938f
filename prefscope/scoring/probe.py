"""Determines how many tokens a forward pass should have on a device, and how fast it is; done once per model.

The budget depends only on the kind of device and its free memory, not on timings, so that two runs on one machine
compute the same batches and get identical numbers.
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
"""Larger passes gain nothing: on a CPU, activations no longer fit into the cache; GPUs are at full speed."""
FEWEST_TOKENS = 256
OPERATIONS_ON_CPU = 8e12
"""Maximum of one forward pass: half a minute of two cores, so that little is lost when a run is interrupted."""
FIRST_TOKENS = 64
LONGEST = 512
ENOUGH_SECONDS = 0.5
SHARE_OF_FREE_MEMORY = 0.6


@dataclass(frozen=True, slots=True)
class Budget:
    """The maximum number of tokens of a forward pass, and the measured speed."""

    batch_tokens: int
    tokens_per_second: float


def probe(model: LanguageModel, path: ForwardMode, token_ids: NDArray[np.int32]) -> Budget:
    """Determine the budget of a model from a few forward passes of growing size.

    Args:
        model: A loaded model whose attention is set for the forward mode.
        path: The forward mode.
        token_ids: Some tokens of the data set, used for the probes.

    Raises:
        torch.OutOfMemoryError: If not even the shortest pass fits into memory.
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
    """Time and peak memory of a forward pass; 0 bytes if the device does not report them."""

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
    """Return the largest power of two up to a number, so that small changes of free memory have no effect."""
    return 1 << max(int(most).bit_length() - 1, 0)


def _rows(token_ids: NDArray[np.int32], tokens: int, context: int | None) -> list[TokenSequence]:
    """Return unrelated sequences with about `tokens` tokens in total, three quarters of them scored."""
    length = min(tokens, LONGEST, context or LONGEST)
    drawn = np.random.default_rng(0).choice(np.unique(token_ids), size=(max(tokens // length, 1), length))
    return [TokenSequence(ids.astype(np.int32), length // 4) for ids in drawn]
