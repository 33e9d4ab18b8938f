"""Entry points of the pipeline, for the CLI, the worker, the Python API, the doctor and parity.

Log-probs are either computed by models (model_run.py) or read from the file (ready_made.py). Only model_run.py imports
torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from prefscope.environment import limit_caches
from prefscope.errors import UsageError
from prefscope.events import Event, Noted, Progressed
from prefscope.folders import sample_data
from prefscope.pipeline.ready_made import import_logps, offers_logps
from prefscope.settings import ModelSettings, ScoreSettings

Emit = Callable[[Event], None]


def score(settings: ScoreSettings, ledger: Callable[[str], Path], emit: Emit, preview: Path | None = None) -> Path:
    """Make the ledger of a data set and return its path.

    Without a policy, the log-probs in the file are used; if it has none, the bundled tiny models score it.

    Args:
        settings: What to score and how.
        ledger: Returns the ledger's path for the run's name (16 hex digits that identify data, models and settings).
        emit: Called with every event, in this thread.
        preview: Where to write a ledger without log-probs before scoring starts; the sums are then emitted as events.

    Raises:
        PrefscopeError: Anything that a user can fix; what has been scored is kept.
    """
    _refuse_reference_alone(settings.models)
    if settings.dispatch.parts is None and not settings.models.policy and offers_logps(settings.data):
        unmeasured = " and no noise floor is measured" if settings.compute.noise_pairs else ""
        unmeasured += " and no alternatives are kept" if settings.compute.alternatives else ""
        unmeasured += " and no divergences are measured" if settings.compute.divergences else ""
        emit(Noted(f"The file already has log-probs, so no model is run{unmeasured}."))
        return import_logps(settings.data, ledger, emit)
    settings = with_models(settings, emit)
    from prefscope.pipeline import model_run

    return model_run.score(settings, ledger, emit, preview)


def score_slice(settings: ScoreSettings, emit: Emit) -> float:
    """Score one slice of the shards into a folder of parts, and return the seconds spent on scoring.

    Raises:
        PrefscopeError: Anything that a user can fix; what has been scored is kept.
    """
    settings = with_models(settings, emit)
    from prefscope.pipeline import model_run

    return model_run.score_slice(settings, emit)


def plan_parts(folder: str, settings: ScoreSettings, emit: Emit) -> None:
    """Make the plan of a folder or URL of parts, or check an existing plan against the settings.

    Raises:
        PrefscopeError: Anything that a user can fix.
    """
    settings = with_models(settings, emit)
    from prefscope.pipeline.parts.agreement import agree

    agree(folder, settings, emit)


def with_models(settings: ScoreSettings, emit: Emit) -> ScoreSettings:
    """Return the settings, with the bundled models if no policy is set, and announce that torch is being loaded.

    Raises:
        UsageError: If there is a reference or a base but no policy.
    """
    _refuse_reference_alone(settings.models)
    limit_caches()
    emit(Progressed("loading torch and transformers", 0))
    if settings.models.policy:
        return settings
    policy, ref = (str(sample_data() / name) for name in ("tiny-policy", "tiny-ref"))
    return replace(settings, models=replace(settings.models, policy=policy, ref=ref, bundled=True))


def _refuse_reference_alone(models: ModelSettings) -> None:
    if not models.policy and (models.ref is not None or models.base is not None):
        raise UsageError(
            "--ref and --base need a --policy",
            hint="Pass --policy and --ref, or neither to use the bundled tiny models.",
        )
