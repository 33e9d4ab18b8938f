"""The manifest of a ledger: everything needed to repeat the run."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from prefscope.ledger.left_out import LEFT_OUT
from prefscope.ledger.validation import KEPT
from prefscope.pipeline.candidates import Candidate
from prefscope.pipeline.model_pool import ScoredModel
from prefscope.pipeline.noise import Noise
from prefscope.pipeline.reader import DataSummary
from prefscope.scoring.engine import NUMERICS_VERSION
from prefscope.scoring.linear import matrix_products
from prefscope.scoring.weights import Overlap
from prefscope.settings import ScoreSettings
from prefscope.version import __version__

if TYPE_CHECKING:
    import torch


def build_manifest(
    settings: ScoreSettings,
    data: DataSummary,
    models: Sequence[ScoredModel],
    device: torch.device,
    dtype: str,
    weights: Overlap | None,
    noise: Noise | None = None,
) -> dict[str, Any]:
    """Return the manifest of a run as JSON values; repeating a run changes only `created`."""
    return {
        **_shared(settings, data, device, dtype, weights),
        "has_reference": any(model.role == "ref" for model in models),
        "models": {
            model.role: {
                **_model(model.candidate),
                "path": model.verdict.path,
                "path_reason": model.verdict.reason,
                **({"kernels": model.verdict.kernels} if model.verdict.kernels else {}),
                **({"unfused": model.verdict.unfused} if model.verdict.unfused else {}),
            }
            for model in models
        },
        **({} if noise is None else {"noise": noise.to_json()}),
        **({KEPT: settings.compute.alternatives} if settings.compute.alternatives else {}),
    }


def preview_manifest(
    settings: ScoreSettings,
    data: DataSummary,
    candidates: Sequence[Candidate],
    device: torch.device,
    dtype: str,
    weights: Overlap | None,
) -> dict[str, Any]:
    """Return the manifest of a run that has not scored anything yet: all that is known before the models are loaded."""
    return {
        **_shared(settings, data, device, dtype, weights),
        "has_reference": len(candidates) > 1,
        "models": {role: _model(one) for role, one in zip(("policy", "ref"), candidates, strict=False)},
    }


def live_manifest(
    settings: ScoreSettings,
    data: DataSummary,
    models: Mapping[str, Mapping[str, Any]],
    device: torch.device,
    dtype: str,
) -> dict[str, Any]:
    """Return the manifest of a ledger that was written during a training.

    Args:
        settings: What was scored and how.
        data: What was read.
        models: What identifies each model and its forward mode, by role.
        device: Where the policy is.
        dtype: That of its weights.
    """
    return {
        **_shared(settings, data, device, dtype, None),
        "has_reference": "ref" in models,
        "models": {role: {**model} for role, model in models.items()},
    }


def _model(candidate: Candidate) -> dict[str, Any]:
    """Return what identifies a model."""
    checkpoint = candidate.checkpoint
    return {
        "name": checkpoint.name,
        "base": checkpoint.base.name if checkpoint.base is not None else None,
        "fingerprint": candidate.fingerprint,
        "stored_dtype": candidate.stored_dtype,
        "attention": candidate.attention,
    }


def _shared(
    settings: ScoreSettings, data: DataSummary, device: torch.device, dtype: str, weights: Overlap | None
) -> dict[str, Any]:
    """Return what is known once the pairs are read."""
    return {
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "bundled": settings.models.bundled,
        "data": {
            "source": data.name,
            "content_hash": data.content_hash,
            "files": data.files,
            "pairs": data.pairs,
            "bad_rows": data.bad_rows,
            "dialects": data.dialects,
        },
        "weights": None if weights is None else {"equal": weights.equal, "erased": weights.erased},
        "compute": {
            "dtype": dtype,
            "device": device.type,
            "matrix_products": matrix_products(device, dtype)[0],
            "numerics_version": NUMERICS_VERSION,
        },
        "tokenization": {
            "tokenizer_hash": data.tokenizer_hash,
            "template_hash": data.template_hash,
            "max_length": data.max_length,
            "truncation": settings.tokenization.truncation,
            "profile": settings.tokenization.profile,
            **({"template_date": data.template_date} if data.template_date else {}),
            **({LEFT_OUT: data.left_out} if data.left_out else {}),
        },
        "settings": _settings(settings),
        "versions": versions(),
    }


def _settings(settings: ScoreSettings) -> dict[str, Any]:
    """Return the settings that affect the numbers: all but where they are computed and where parts are kept."""
    return {name: value for name, value in settings.to_json().items() if name != "dispatch"}


def versions() -> dict[str, str]:
    """Return the versions of Python and the packages that affect the numbers."""
    packages = ("torch", "transformers", "tokenizers", "numpy")
    return {
        "prefscope": __version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }
