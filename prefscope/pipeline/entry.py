"""Which way a run takes: models are asked, or the file has log-probs already. torch is loaded for the former alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prefscope.events import Event, Noted, Progressed
from prefscope.folders import sample_data
from prefscope.pipeline.ready_made import import_logps, offers_logps
from prefscope.settings import ScoreSettings


def score_or_import(
    settings: ScoreSettings,
    ledger: Callable[[str], Path],
    emit: Callable[[Event], None],
    preview: Path | None = None,
) -> Path:
    """Make the ledger of a data set and return its path.

    Without a policy, log-probs of the file are taken; where it has none, the bundled tiny pair scores it. The arguments
    are those of `run.score`, and so are the errors.
    """
    if settings.dispatch.parts is None and not settings.models.policy and offers_logps(settings.data):
        unmeasured = ", and so no noise floor is measured" if settings.compute.noise_pairs else ""
        emit(Noted(f"The file has log-probs already: no model is run{unmeasured}."))
        return import_logps(settings.data, ledger, emit)
    _quieten(emit)
    from prefscope.pipeline.run import score

    return score(settings if settings.models.policy else with_bundled_models(settings), ledger, emit, preview)


def score_slice(settings: ScoreSettings, emit: Callable[[Event], None]) -> float:
    """Score one slice of the shards into a folder of parts and return the seconds that scoring took.

    Raises:
        PrefscopeError: What a user can mend; what was scored until then is kept.
    """
    _quieten(emit)
    from prefscope.pipeline.run import score_slice as score

    return score(settings if settings.models.policy else with_bundled_models(settings), emit)


def plan_parts(folder: str, settings: ScoreSettings, emit: Callable[[Event], None]) -> None:
    """Make the plan of a folder or URL of parts; one that is there is checked against the settings.

    Raises:
        PrefscopeError: What a user can mend.
    """
    _quieten(emit)
    from prefscope.pipeline.parts.agreement import agree

    agree(folder, settings if settings.models.policy else with_bundled_models(settings), emit)


def _quieten(emit: Callable[[Event], None]) -> None:
    """Before torch and transformers are loaded: bars of tqdm and the hub would garble what is shown."""
    os.environ.update(TQDM_DISABLE="1", HF_HUB_DISABLE_PROGRESS_BARS="1")  # both libraries read this on import
    emit(Progressed("loading torch and transformers", 0))


def with_bundled_models(settings: ScoreSettings) -> ScoreSettings:
    """Return the settings with the tiny policy and reference of sample_data."""
    policy, ref = (str(sample_data() / name) for name in ("tiny-policy", "tiny-ref"))
    return replace(settings, models=replace(settings.models, policy=policy, ref=ref, bundled=True))
