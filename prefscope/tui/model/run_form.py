"""The fields of the load screen as texts, and the run that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from prefscope.errors import UsageError
from prefscope.ledger.preferences import check_reference_free, read_preferences, wants_collisions, wants_divergences
from prefscope.settings import Dtype, PreferenceSettings, ScoreSettings

AUTO = "auto"
SIMPO_BETA, SIMPO_GAMMA = 2.0, 0.5
"""Defaults of --simpo-beta and --simpo-gamma."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to score, where to write it, and with which beta and losses to show it."""

    settings: ScoreSettings
    ledger: Path | None
    """None for the default path."""
    preferences: PreferenceSettings

    def texts(self) -> dict[str, str]:
        """Return the text of every field; empty for a default."""
        data, models, compute = self.settings.data, self.settings.models, self.settings.compute
        return {
            "data": data.source,
            "policy": models.policy,
            "ref": models.ref or "",
            "base": models.base or "",
            "output": str(self.ledger or ""),
            "loss": _losses(self.preferences),
            "beta": f"{self.preferences.beta:g}",
            "limit": _optional(data.limit),
            "sample": _optional(data.sample),
            "device": "" if models.device == AUTO else models.device,
            "dtype": "" if models.dtype == AUTO else models.dtype,
            "max-length": _optional(self.settings.tokenization.max_length),
            "batch-tokens": _optional(compute.batch_tokens),
            "workers": _optional(self.settings.dispatch.workers),
        }

    def changed(self, texts: Mapping[str, str], *, skip_bad_rows: bool) -> RunRequest:
        """Return the request for changed texts of the fields; what has no field stays.

        Raises:
            UsageError: If a text is no valid value.
        """
        old, settings = self.texts(), self.settings
        preferences = self.preferences
        if any(texts[name] != old[name] for name in ("loss", "beta")):
            preferences = _preferences(texts, self.preferences, same_losses=texts["loss"] == old["loss"])
        models = replace(
            settings.models,
            policy=expanded(texts["policy"]),
            ref=expanded(texts["ref"]) or None,
            base=expanded(texts["base"]) or None,
            device=texts["device"] or AUTO,
            dtype=_dtype(texts["dtype"]),
        )
        if models.ref == "none":
            check_reference_free(preferences)
        numbers = {
            name: _number(name, texts[name]) for name in ("limit", "sample", "max-length", "batch-tokens", "workers")
        }
        data = replace(settings.data, source=expanded(texts["data"]), skip_bad_rows=skip_bad_rows)
        changed = ScoreSettings(
            data=replace(data, limit=numbers["limit"], sample=numbers["sample"]),
            models=models,
            tokenization=replace(settings.tokenization, max_length=numbers["max-length"]),
            compute=replace(
                settings.compute,
                batch_tokens=numbers["batch-tokens"],
                collisions=wants_collisions(preferences),
                divergences=settings.compute.divergences or wants_divergences(preferences),
            ),
            dispatch=replace(settings.dispatch, workers=numbers["workers"]),
        )
        return RunRequest(changed, ledger_path(texts["output"]), preferences)


def ledger_path(text: str) -> Path | None:
    """Return the path of the ledger to write, None for the default path.

    Raises:
        UsageError: If it is no path of a ledger.
    """
    if not text:
        return None
    path = Path(expanded(text))
    if path.suffix != ".parquet":
        raise UsageError("Only a ledger can be written from the screens", where=text, hint="Name a .parquet file.")
    if path.is_dir():
        raise UsageError("This is a folder", where=text, hint="Add the name of a .parquet file in it.")
    return path


def expanded(name: str) -> str:
    """Return a name with the user's home folder in place of `~`."""
    if not name.startswith("~"):
        return name
    try:
        return str(Path(name).expanduser())
    except RuntimeError:  # `~user` of an unknown user
        return name


def _preferences(texts: Mapping[str, str], initial: PreferenceSettings, *, same_losses: bool) -> PreferenceSettings:
    try:
        beta = float(texts["beta"] or 0.1)
    except ValueError:
        raise UsageError(f"beta {texts['beta']} is not a number", hint="For example 0.1.") from None
    if same_losses:
        read_preferences(beta, SIMPO_BETA, SIMPO_GAMMA, None, weights=False)  # refuses a beta that is out of range
        return replace(initial, beta=beta)
    simpo = next((choice.parameters for choice in initial.losses if choice.name == "simpo"), {})  # as configured
    common = simpo.get("beta", SIMPO_BETA), simpo.get("gamma", SIMPO_GAMMA)
    return read_preferences(beta, *common, texts["loss"].split() or None, weights=initial.weights)


def _losses(preferences: PreferenceSettings) -> str:
    """Return the losses that the user named, as they are written with --loss."""
    if not preferences.explicit:
        return ""
    parameters = (
        ",".join(f"{name}={value:g}" for name, value in choice.parameters.items()) for choice in preferences.losses
    )
    return " ".join(
        f"{choice.name}:{some}" if some else choice.name
        for choice, some in zip(preferences.losses, parameters, strict=True)
    )


def _dtype(text: str) -> Dtype:
    if text not in {"", *get_args(Dtype)}:
        raise UsageError(f"There is no dtype {text!r}", hint=f"Use one of {', '.join(get_args(Dtype))}.")
    return cast("Dtype", text or AUTO)


def _number(name: str, text: str) -> int | None:
    """Return a whole number of at least 1, None for an empty field."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise UsageError(f"{name.replace('-', ' ')} {text!r} is not a whole number above 0", hint="Or leave it empty.")
    return int(text)


def _optional(value: int | None) -> str:
    return "" if value is None else str(value)
