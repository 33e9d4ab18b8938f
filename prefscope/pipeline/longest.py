"""The maximum sequence length of a run: from the user, the profile, and the context of the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prefscope.events import Event, Noted
from prefscope.scoring import models as loading
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.scoring.context import is_rotary
from prefscope.scoring.profiles import find_profile
from prefscope.settings import ScoreSettings


def longest(settings: ScoreSettings, checkpoints: Sequence[Checkpoint], emit: Callable[[Event], None]) -> int | None:
    """Return the maximum number of tokens of a sequence, or None if there is no limit.

    This is the context of the models, or less if the user or the profile requests it. With rotary positions, a user may
    exceed the context of a model, and gets a warning.
    """
    asked, profile = settings.tokenization.max_length, find_profile(settings.tokenization.profile)
    usual = profile.max_length if asked is None and profile is not None else None
    limits = [limit for limit in (asked, usual) if limit is not None]
    for checkpoint in checkpoints:
        context = loading.context_length(checkpoint, settings.models)
        if context is None:
            continue
        if asked is None or asked <= context:
            limits.append(context)
            continue
        rotary = is_rotary(loading.load_config(checkpoint.full, settings.models))
        limits += [] if rotary else [context]
        emit(Noted(_warning(checkpoint.name, asked, context, rotary=rotary)))
    return min(limits, default=None)


def _warning(name: str, asked: int, context: int, *, rotary: bool) -> str:
    exceeds = f"Warning: --max-length {asked:,} exceeds the context of {name}, {context:,} tokens."
    if rotary:
        return f"{exceeds} Longer sequences are scored, but the model was not designed for them."
    return f"{exceeds} It has no positions beyond that, so sequences are cut to {context:,} tokens."
