"""Estimate what a run costs before it starts: tokens, memory and time.

Tokens are counted in some pairs with the policy's tokenizer. The time comes from the speed that a run measured with the
same model and settings on this machine; without one it is a guess, and says so.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from prefscope.errors import PrefscopeError
from prefscope.folders import store_path
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.speed import find_speed
from prefscope.scoring.store import LogpStore
from prefscope.settings import ScoreSettings
from prefscope.tui.model.amounts import count, duration, size
from prefscope.tui.model.model_recognition import ModelFound
from prefscope.tui.model.recognition import DataFound, Texts

CHARACTERS_PER_TOKEN = 3.5
TEMPLATE_TOKENS = 16
"""About what a chat template adds to a sequence."""
LARGEST_TOKENIZER = 64 << 20
PRODUCT_SIZE = 768
SHARE_OF_PRODUCTS = 0.7
"""About the share of the speed of matrix products that a forward pass reaches."""


def estimate(settings: ScoreSettings, data: DataFound, policy: ModelFound, ref: ModelFound) -> str:
    """Return tokens, memory and time of a run, empty if its data set is not known."""
    if not data.sample:
        return ""
    tokens = num_pairs(settings, data) * tokens_per_pair(settings, data, policy)
    models = [policy] if settings.models.ref == "none" else [policy, ref]
    weights = policy.weights or ref.weights
    memory = f", {size(weights * (4 if '32' in (policy.dtype or ref.dtype) else 2))}" if weights else ""
    parts = [f"about {count(tokens)} tokens{memory} per model"]
    timed = models[:1] if settings.compute.divergences else models  # the policy's pass is that of the reference, too
    speed = measured_speed(settings, timed)
    if speed is not None:
        parts.append(f"about {duration(len(timed) * tokens / speed)}, as measured here")
    elif weights is not None and not has_gpu():
        seconds = len(models) * 2 * weights * tokens / operations_per_second()
        parts.append(f"{duration(seconds)} on this CPU is a guess")
    else:
        parts.append("time unknown before the first run")
    return " · ".join(parts)


def num_pairs(settings: ScoreSettings, data: DataFound) -> int:
    """Return the number of pairs that a run scores."""
    asked = [amount for amount in (settings.data.limit, settings.data.sample) if amount is not None]
    return min([data.pairs, *asked])


def tokens_per_pair(settings: ScoreSettings, data: DataFound, policy: ModelFound) -> float:
    """Return the mean number of tokens that a forward pass computes for a pair, whose prompt occurs once."""
    ratio = 1 / CHARACTERS_PER_TOKEN
    if policy.checkpoint is not None:
        ratio = _tokens_per_character(policy.checkpoint, data.sample) or ratio
    most = settings.tokenization.max_length
    if most is None:
        return ratio * data.characters + 2 * TEMPLATE_TOKENS
    lengths = ratio * np.array([[len(text) for text in pair] for pair in data.sample])
    prompt, chosen, rejected = (lengths[:, side] + TEMPLATE_TOKENS * (side == 0) for side in range(3))
    whole = np.minimum(prompt + chosen, most) + np.minimum(prompt + rejected, most) - np.minimum(prompt, most)
    return float(whole.mean())


def _tokens_per_character(checkpoint: Checkpoint, sample: Sequence[Texts]) -> float | None:
    """Return the density of tokens in some pairs, None without a usable tokenizer file."""
    files = [folder / "tokenizer.json" for folder in (checkpoint.path, checkpoint.full.path)]
    with suppress(OSError):
        for file in files:
            if file.is_file() and file.stat().st_size <= LARGEST_TOKENIZER:
                return _measured_density(file, file.stat().st_mtime_ns, tuple(sample))
    return None


@functools.lru_cache(maxsize=8)
def _measured_density(file: Path, changed: int, sample: tuple[Texts, ...]) -> float | None:  # noqa: ARG001 (for the cache)
    import tokenizers

    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
        texts = [text for pair in sample for text in pair]
        tokens = sum(len(found.ids) for found in tokenizer.encode_batch(texts, add_special_tokens=False))
    except Exception:  # noqa: BLE001 (the library raises nothing narrower; the run reports what is wrong)
        return None
    return tokens / max(sum(map(len, texts)), 1) or None


def measured_speed(settings: ScoreSettings, models: Sequence[ModelFound]) -> float | None:
    """Return the tokens per second that a run on this machine reached with one of some models of equal size."""
    path = store_path(settings.compute.cache_dir)
    if not settings.compute.use_cache or not path.is_file() or len({one.weights for one in models}) > 1:
        return None
    checkpoints = [one.checkpoint for one in models if one.checkpoint is not None]
    with suppress(PrefscopeError, OSError), LogpStore(path) as store:
        speeds = [find_speed(store, one, settings) for one in checkpoints]
        return next(filter(None, speeds), None)
    return None


def has_gpu() -> bool:
    """Return whether there is a CUDA device, judging by its device file."""
    return Path("/dev/nvidia0").exists()


@functools.cache
def operations_per_second() -> float:
    """Measure the operations per second that a forward pass reaches on this CPU, from float32 matrix products."""
    matrix = np.ones((PRODUCT_SIZE, PRODUCT_SIZE), dtype=np.float32)
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        matrix @ matrix
        taken.append(time.perf_counter() - start)
    return float(2 * PRODUCT_SIZE**3 / min(taken)) * SHARE_OF_PRODUCTS
