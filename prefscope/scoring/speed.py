"""The measured speed of a model on this machine, kept in the store for estimates.

It only affects what is shown before a run. This module does not import torch: the screens look up what a run kept.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform

from prefscope.errors import UNREADABLE
from prefscope.scoring.checkpoints import Checkpoint, file_stamps
from prefscope.scoring.store import KEY_BYTES, LogpStore
from prefscope.settings import ScoreSettings


def find_speed(store: LogpStore, checkpoint: Checkpoint, settings: ScoreSettings) -> float | None:
    """Return the tokens per second that a run with these files and settings reached, or None if there was none.

    Raises:
        OSError: If a file of the checkpoint cannot be read.
    """
    try:
        value = json.loads(store.find_verdict(_key(checkpoint, settings)) or "null")
    except UNREADABLE:
        return None
    is_speed = isinstance(value, int | float) and math.isfinite(value) and value > 0
    return float(value) if is_speed else None


def keep_speed(store: LogpStore, checkpoint: Checkpoint, settings: ScoreSettings, tokens_per_second: float) -> None:
    """Keep the speed of a run for the next estimate.

    Raises:
        OSError: If a file of the checkpoint cannot be read.
    """
    store.keep_verdict(_key(checkpoint, settings), json.dumps(tokens_per_second))


def _key(checkpoint: Checkpoint, settings: ScoreSettings) -> bytes:
    """Return the store key of a speed: a hash of the machine, the model's files and what the user asked for."""
    models, compute, dispatch = settings.models, settings.compute, settings.dispatch
    parts = [
        "speed",
        platform.node(),
        file_stamps(checkpoint),
        [models.device, models.dtype, models.attn, models.device_map, models.tp],
        [compute.threads, compute.batch_tokens, compute.fused],
        *([compute.alternatives] if compute.alternatives else []),
        *(["divergences"] if compute.divergences else []),
        [dispatch.engine, dispatch.workers],
    ]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=KEY_BYTES).digest()
