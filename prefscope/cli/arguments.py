"""The settings that the values of shared options stand for."""

from __future__ import annotations

from dataclasses import replace

from prefscope.errors import UsageError
from prefscope.settings import DEFAULT_LOSSES, DispatchSettings, Engine, LossChoice, PreferenceSettings


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


def read_mapping(text: str | None) -> dict[str, str] | None:
    """Return the columns named by --map, or None without it.

    Raises:
        UsageError: A part is missing or unknown.
    """
    from prefscope.data.dialects import parse_mapping

    return None if text is None else parse_mapping(text)


def read_dispatch(
    workers: int | None,
    engine: Engine,
    address: str | None,
    gpus_per_worker: float | None,
    cpus_per_worker: int,
    parts: str | None,
    slice_: str | None,
) -> DispatchSettings:
    """Return how the work is divided among processes and machines.

    Raises:
        UsageError: --slice is malformed or has no --parts, or a Ray option is used without --engine ray.
    """
    if engine != "ray" and (address is not None or gpus_per_worker is not None or cpus_per_worker != 1):
        raise UsageError("--address, --gpus-per-worker and --cpus-per-worker need Ray", hint="Add --engine ray.")
    dispatch = DispatchSettings(workers, engine, address, gpus_per_worker, cpus_per_worker, parts=parts)
    if slice_ is None:
        return dispatch
    number, slices = _read_slice(slice_)
    if parts is None:
        raise UsageError("--slice needs --parts", hint="Pass a folder or URL that all slices can access.")
    return replace(dispatch, slice_number=number, slices=slices)


def _read_slice(text: str) -> tuple[int, int]:
    """Return I and N of a slice I/N.

    Raises:
        UsageError: It is malformed, or I is not below N.
    """
    number, _, slices = text.partition("/")
    if not (number.isascii() and number.isdigit() and slices.isascii() and slices.isdigit()):
        raise UsageError(f"--slice {text} is not of the form I/N", hint="Write 0/4 for the first of four.")
    if int(number) >= int(slices):
        raise UsageError(
            f"There is no slice {text}", hint=f"Slices of {slices} run from 0/{slices} to {int(slices) - 1}/{slices}."
        )
    return int(number), int(slices)
