"""Determines how many tokens a forward pass should have on a device, and how fast it is; done once per model.

The budget depends only on the device, its free memory and the model, not on timings, so that two runs on one machine
compute the same batches and get identical numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from prefscope.scoring.context import context_of
from prefscope.scoring.engine import forward
from prefscope.scoring.forward_mode import ForwardMode
from prefscope.scoring.memory import is_out_of_memory, release_cached
from prefscope.scoring.models import LanguageModel
from prefscope.scoring.sequences import TokenSequence

MOST_TOKENS = {"cpu": 2048, "mps": 8192, "cuda": 32768}
"""Larger passes gain nothing: on a CPU, activations no longer fit into the cache; GPUs are at full speed."""
OPERATIONS_ON_CPU = 8e12
"""Maximum of one forward pass: half a minute of two cores, so that little is lost when a run is interrupted."""
FIRST_TOKENS = 64
LONGEST = 512
ENOUGH_SECONDS = 0.5
MEASURED_TOKENS = (1024, 4096)
"""Passes on a GPU whose peaks of memory give the bytes per token. Both compute full chunks of logits of most heads."""
SHARE_OF_FREE_MEMORY = 0.6
"""The rest is for fragmentation, and for rows with longer sequences than those of the probes."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The maximum number of tokens of a forward pass, and the measured speed."""

    batch_tokens: int
    tokens_per_second: float


def probe(
    model: LanguageModel, path: ForwardMode, token_ids: NDArray[np.int32], *, room: Callable[[], float]
) -> Budget:
    """Determine the budget of a model from a few forward passes.

    Args:
        model: A loaded model whose attention is set for the forward mode.
        path: The forward mode.
        token_ids: Some tokens of the data set, used for the probes.
        room: Returns the bytes of a GPU that forward passes may take.

    Raises:
        torch.OutOfMemoryError: If not even the shortest pass fits into memory.
    """
    if model.device.type == "cuda":
        return _probe_gpu(model, path, token_ids, room)
    most = MOST_TOKENS.get(model.device.type, MOST_TOKENS["cpu"])
    if model.device.type == "cpu":
        weights = sum(parameter.numel() for parameter in model.module.parameters())
        most = min(most, _power_of_two(OPERATIONS_ON_CPU / (2 * weights)))
    tokens, taken = FIRST_TOKENS, _try(model, path, token_ids, FIRST_TOKENS)
    while taken.seconds < ENOUGH_SECONDS and tokens * 2 <= most:
        larger = _try_if_it_fits(model, path, token_ids, tokens * 2)
        if larger is None:
            most = tokens
            break
        tokens, taken = tokens * 2, larger
    return Budget(max(most, FIRST_TOKENS), tokens / taken.seconds)


def _probe_gpu(
    model: LanguageModel, path: ForwardMode, token_ids: NDArray[np.int32], room: Callable[[], float]
) -> Budget:
    """Return the tokens that fit into a GPU, by the peaks of memory of two passes."""
    _try(model, path, token_ids, FIRST_TOKENS)  # loads kernels and workspaces, which neither count nor are timed
    free = SHARE_OF_FREE_MEMORY * room()
    peaks: list[tuple[int, _Taken]] = []
    for tokens in MEASURED_TOKENS:
        taken = _try_if_it_fits(model, path, token_ids, tokens)
        if taken is None:
            break
        peaks.append((tokens, taken))
    if not peaks:
        tokens = FIRST_TOKENS
        return Budget(tokens, tokens / _try(model, path, token_ids, tokens).seconds)
    tokens, taken = peaks[-1]
    if len(peaks) < len(MEASURED_TOKENS):
        return Budget(tokens, tokens / taken.seconds)
    (fewer, before), (more, after) = peaks
    per_token = max((after.peak_bytes - before.peak_bytes) / (more - fewer), after.peak_bytes / (2 * more), 1.0)
    fixed = max(after.peak_bytes - per_token * more, 0.0)
    fitting = _power_of_two(max((free - fixed) / per_token, FIRST_TOKENS))
    return Budget(min(MOST_TOKENS["cuda"], fitting), tokens / taken.seconds)


@dataclass(frozen=True, slots=True)
class _Taken:
    """Time and peak memory of a forward pass; 0 bytes if the device does not report them."""

    seconds: float
    peak_bytes: int


def _try_if_it_fits(
    model: LanguageModel, path: ForwardMode, token_ids: NDArray[np.int32], tokens: int
) -> _Taken | None:
    try:
        return _try(model, path, token_ids, tokens)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    release_cached(model.device)
    return None


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
