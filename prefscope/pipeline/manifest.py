"""What a ledger says of its own making, so that someone else can repeat it."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

import prefscope
from prefscope.pipeline.intake import DataSummary
from prefscope.scoring.checkpoints import ScoredModel
from prefscope.scoring.engine import ATTENTION_PATH, NUMERICS_VERSION
from prefscope.settings import ScoreSettings

if TYPE_CHECKING:
    import torch


def build_manifest(
    settings: ScoreSettings, data: DataSummary, models: Sequence[ScoredModel], device: torch.device, dtype: str
) -> dict[str, Any]:
    """Return the manifest of a run as JSON values; only `created` differs between two runs of the same work."""
    return {
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "bundled": settings.models.bundled,
        "has_reference": any(model.role == "ref" for model in models),
        "data": {
            "source": data.name,
            "content_hash": data.content_hash,
            "pairs": data.pairs,
            "bad_rows": data.bad_rows,
            "dialects": data.dialects,
        },
        "models": {
            model.role: {
                "name": model.checkpoint.name,
                "base": model.checkpoint.base.name if model.checkpoint.base is not None else None,
                "fingerprint": model.fingerprint,
                "stored_dtype": model.stored_dtype,
                "attention": model.attention,
            }
            for model in models
        },
        "compute": {
            "dtype": dtype,
            "device": device.type,
            "attention_path": ATTENTION_PATH,
            "numerics_version": NUMERICS_VERSION,
        },
        "tokenization": {
            "tokenizer_hash": data.tokenizer_hash,
            "template_hash": data.template_hash,
            "max_length": data.max_length,
            "truncation": settings.tokenization.truncation,
        },
        "settings": settings.to_json(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what decides a number."""
    packages = ("torch", "transformers", "tokenizers", "numpy")
    return {
        "prefscope": prefscope.__version__,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }
