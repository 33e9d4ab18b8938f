"""Validation of the files of a folder of parts, which anyone may have written."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

import numpy as np

from prefscope.ledger.file import ExtraKind
from prefscope.ledger.validation import is_manifest
from prefscope.pipeline.logp_source import ROLES
from prefscope.pipeline.shards import Plan

_DATA: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "content_hash": str,
    "pairs": int,
    "bad_rows": int,
    "dialects": dict,
    "tokenizer_hash": str,
    "template_hash": str,
    "max_length": (int, NoneType),
}
_LATER_DATA: Mapping[str, type] = {"left_out": dict, "template_date": str, "files": list}
"""Fields that plans of older versions do not have."""


def is_plan(content: Any) -> bool:
    """Return whether the content of plan.json has all required fields, with valid types."""
    return (
        isinstance(content, dict)
        and type(content.get("format")) is int
        and isinstance(content.get("asked"), dict)
        and _is_source(content.get("source"))
        and _is_data(content.get("data"))
        and _has_values(content.get("columns"), get_args(ExtraKind))
        and isinstance(content.get("chunk_pairs"), list)
        and all(map(_is_count, content["chunk_pairs"]))
        and _is_texts(content.get("digests", {}))
        and isinstance(content.get("shards"), list)
        and all(map(_is_shard, content["shards"]))
    )


def is_record(scopes: Any, manifest: Any) -> bool:
    """Return whether a record of a run is valid: its manifest names a model for each folder of parts."""
    if not (_is_texts(scopes) and isinstance(manifest, dict) and "policy" in scopes and scopes.keys() <= {*ROLES}):
        return False
    models = manifest.get("models")
    named = [models.get(role) for role in scopes] if isinstance(models, dict) else [None]
    return all(isinstance(one, dict) and isinstance(one.get("name"), str) for one in named)


def makes_a_ledger(manifest: Mapping[str, Any]) -> bool:
    """Return whether the manifest of a record is a valid manifest of a ledger."""
    settings = manifest.get("settings")
    compute = settings.get("compute") if isinstance(settings, dict) else None
    switches = [compute.get(name) for name in ("keep_tokens", "collisions")] if isinstance(compute, dict) else [None]
    return all(isinstance(one, bool) for one in switches) and is_manifest({"extra_columns": {}, **manifest}, ())


def is_order(plan: Plan, pairs: int) -> bool:
    """Return whether a plan has every pair exactly once, and the owner of every sequence exists."""
    whole = all(one.ndim == 1 and one.dtype.kind == "i" for one in (plan.order, plan.starts, plan.owners))
    return bool(
        whole
        and np.array_equal(np.sort(plan.order), np.arange(pairs))
        and len(plan.starts) == len(plan.names) + 1
        and (plan.starts[0], plan.starts[-1]) == (0, pairs)
        and (np.diff(plan.starts) >= 0).all()
        and len(plan.owners) == 2 * pairs
        and (plan.owners >= 0).all()
        and (plan.owners < 2 * pairs).all()
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def _has_values(value: Any, known: tuple[str, ...]) -> bool:
    return _is_texts(value) and {*value.values()} <= {*known}


def _is_source(value: Any) -> bool:
    sized = isinstance(value, dict) and isinstance(value.get("name"), str)
    return sized and (value.get("size") is None or _is_count(value["size"]))


def _is_data(value: Any) -> bool:
    if not isinstance(value, dict) or not _DATA.keys() <= value.keys() <= _DATA.keys() | _LATER_DATA.keys():
        return False
    typed = all(isinstance(value[name], kind) for name, kind in {**_DATA, **_LATER_DATA}.items() if name in value)
    return typed and _is_count(value["pairs"])


def _is_shard(value: Any) -> bool:
    counted = isinstance(value, dict) and all(_is_count(value.get(name)) for name in ("sequences", "tokens"))
    return counted and isinstance(value.get("name"), str) and value["name"].isalnum()
