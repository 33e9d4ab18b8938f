"""What the ledgers of one run folder have in common, so that their figures can be compared from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefscope.errors import UsageError
from prefscope.settings import ScoreSettings

ROWS = ("sample", "seed", "limit", "dialect", "mapping", "split", "config", "revision", "skip_bad_rows")
"""Settings that decide which rows are read, and how."""
TOKENIZATION = ("max_length", "truncation", "chat_template", "profile")
TOKENIZED = ("tokenizer_hash", "template_hash", "max_length", "truncation", "profile", "template_date")
TOKENIZER = "tokenizer, chat template or truncation"


def requested(settings: ScoreSettings, content_hash: str, reference: str | None) -> dict[str, Any]:
    """Return what the settings of a watch decide before anything is scored.

    Args:
        settings: The settings of a run.
        content_hash: Of the data set.
        reference: The fingerprint of the reference; None if it is not known yet.
    """
    values = settings.to_json()
    return {
        "data set": content_hash,
        "sample, seed or rows": {name: values["data"][name] for name in ROWS},
        "tokenization": {name: values["tokenization"][name] for name in TOKENIZATION},
        "dtype": settings.models.dtype,
        **({} if reference is None else {"reference": reference}),
    }


def recorded(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same, as it is recorded in the manifest of a ledger; what a manifest does not say is None."""
    return {
        "data set": _at(manifest, "data", "content_hash"),
        "sample, seed or rows": {name: _at(manifest, "settings", "data", name) for name in ROWS},
        "tokenization": {name: _at(manifest, "settings", "tokenization", name) for name in TOKENIZATION},
        "dtype": _at(manifest, "settings", "models", "dtype"),
        "reference": reference_of(manifest),
    }


def scored(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides the numbers of a finished ledger, apart from the policy."""
    return {
        **{name: value for name, value in recorded(manifest).items() if name != "tokenization"},
        TOKENIZER: {name: _at(manifest, "tokenization", name) for name in TOKENIZED},
        "dtype": _at(manifest, "compute", "dtype"),
    }


def reference_of(manifest: Mapping[str, Any]) -> str:
    """Return the fingerprint of a ledger's reference; empty if it has none."""
    return str(_at(manifest, "models", "ref", "fingerprint") or "")


def policy_of(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and the fingerprint of a ledger's policy."""
    return str(_at(manifest, "models", "policy", "name")), str(_at(manifest, "models", "policy", "fingerprint"))


def template_date_of(manifest: Mapping[str, Any]) -> str:
    """Return the date that the chat template wrote; empty if it wrote none."""
    return str(_at(manifest, "tokenization", "template_date") or "")


def differing(some: Mapping[str, Any], others: Mapping[str, Any]) -> list[str]:
    """Return the names of the values that differ, of those that both have."""
    return [name for name, value in some.items() if name in others and others[name] != value]


def refuse_differing(folder: Path, names: list[str]) -> None:
    """Refuse to add to a run folder what cannot be compared with its ledgers.

    Raises:
        UsageError: If there are names of differing values.
    """
    if names:
        raise UsageError(
            f"This run folder was made with another {' and another '.join(names)}, so its figures cannot be compared "
            "with new ones",
            where=str(folder),
            hint="Choose another run folder, or repeat the options that it was made with.",
        )


def _at(value: Any, *keys: str) -> Any:
    """Return a value from nested mappings; None if it is missing."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
