"""Options that cannot be combined, refused before anything is read or computed."""

from __future__ import annotations

from prefscope.errors import UsageError
from prefscope.settings import MOST_ALTERNATIVES, ScoreSettings


def refuse_combinations(settings: ScoreSettings) -> None:
    """Refuse options that `--alternatives` and `--kl` cannot be combined with.

    Raises:
        UsageError: If there is such an option, or the number of alternatives is out of range.
    """
    compute, dispatch = settings.compute, settings.dispatch
    if not 0 <= compute.alternatives <= MOST_ALTERNATIVES:
        raise UsageError(f"The number of alternatives must be from 0 to {MOST_ALTERNATIVES}")
    both = {
        "--tp, whose processes have only a slice of the vocabulary each": settings.models.tp > 1,
        "--parts, whose files have no place for them": dispatch.parts is not None,
        "--engine ray": dispatch.engine == "ray",
    }
    asked = {
        "--alternatives": (bool(compute.alternatives), both | {"--no-tokens": not compute.keep_tokens}),
        "--kl": (compute.divergences, both),
    }
    for option, (is_asked, refused) in asked.items():
        for other, is_there in refused.items():
            if is_asked and is_there:
                implied = " tdpo1 and tdpo2 imply --kl." if option == "--kl" else ""
                raise UsageError(f"{option} cannot be combined with {other}", hint=f"Omit one of them.{implied}")
