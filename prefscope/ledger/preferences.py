"""Beta and losses as users write them, on the command line and on the screens."""

from __future__ import annotations

from prefscope.errors import UsageError
from prefscope.settings import DEFAULT_LOSSES, LossChoice, PreferenceSettings


def read_preferences(
    beta: float, simpo_beta: float, simpo_gamma: float, losses: list[str] | None, *, weights: bool
) -> PreferenceSettings:
    """Return beta and the losses to compute; a parameter written in --loss overrides the common option.

    Raises:
        UsageError: A loss or parameter is unknown or out of range.
    """
    from prefscope.preference import losses as _losses  # noqa: F401 (registers the losses)
    from prefscope.preference.registry import parse_choice, refuse_repeats, resolve_parameters

    parsed = tuple(parse_choice(text) for text in losses) if losses else DEFAULT_LOSSES
    common = {"simpo": {"beta": simpo_beta, "gamma": simpo_gamma}}
    refuse_repeats(parsed)
    choices = tuple(LossChoice(c.name, {**common.get(c.name, {}), **c.parameters}) for c in parsed)
    preferences = PreferenceSettings(beta, choices, explicit=bool(losses), weights=weights)
    for choice in choices:
        resolve_parameters(choice, preferences)
    return preferences


def wants_collisions(preferences: PreferenceSettings) -> bool:
    """Return whether a loss needs how confident the policy was at each token (WPO's normaliser)."""
    from prefscope.ledger.columns import COLLISION_LOGPS
    from prefscope.preference.registry import find_loss

    return any(name in find_loss(choice.name).inputs for choice in preferences.losses for name in COLLISION_LOGPS)


def wants_divergences(preferences: PreferenceSettings) -> bool:
    """Return whether a loss needs the KL divergences of policy and reference (TDPO)."""
    from prefscope.ledger.columns import DIVERGENCE_SUMS
    from prefscope.preference.registry import find_loss

    return any(name in find_loss(choice.name).inputs for choice in preferences.losses for name in DIVERGENCE_SUMS)


def check_reference_free(preferences: PreferenceSettings) -> None:
    """Check that no requested loss needs a reference, before a run without one computes anything.

    Raises:
        UsageError: One does.
    """
    from prefscope.preference.registry import find_loss

    needing = [choice.name for choice in preferences.losses if find_loss(choice.name).needs_reference]
    if needing and preferences.explicit:
        raise UsageError(f"Loss {needing[0]} needs a reference, but --ref is none", hint="Pass one with --ref.")
