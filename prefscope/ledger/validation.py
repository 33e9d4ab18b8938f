"""Validate the manifest and the columns of a ledger, so that its readers can rely on them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

from prefscope.errors import UNREADABLE
from prefscope.ledger.checksums import damaged
from prefscope.ledger.columns import (
    ALTERNATIVES,
    COLLISIONS,
    DIGESTS,
    DIVERGENCES,
    STORED,
    TEXTS,
    TOKEN_DIVERGENCES,
    TOKENS,
)
from prefscope.settings import MOST_ALTERNATIVES

if TYPE_CHECKING:
    import pyarrow as pa

_MAPPINGS = ("data", "models", "settings", "renamed")
_MAPPINGS_OR_NULL = ("compute", "tokenization", "versions", "weights", "noise", "partial")
KEPT = "alternatives"
"""In the manifest: the number of top tokens kept per position, if any are."""
_MANIFEST = "the manifest in the footer"


def read_manifest(text: bytes, path: Path) -> dict[str, Any]:
    """Parse a manifest; only its format version is checked.

    Raises:
        DamagedLedgerError: If it is not a manifest.
    """
    try:
        manifest = json.loads(text)
    except UNREADABLE as error:
        raise damaged(path, _MANIFEST) from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise damaged(path, _MANIFEST)
    return manifest


def check_manifest(manifest: Mapping[str, Any], kinds: Collection[str], path: Path) -> None:
    """Refuse an invalid manifest.

    Args:
        manifest: The parsed manifest.
        kinds: Valid kinds of the data set's columns.
        path: Path of the file, for messages.

    Raises:
        DamagedLedgerError: If a value is missing or of the wrong type.
    """
    if not is_manifest(manifest, kinds):
        raise damaged(path, _MANIFEST)


def is_manifest(manifest: Mapping[str, Any], kinds: Collection[str]) -> bool:
    """Return whether all values of a manifest have the right types; `kinds` are valid for the data set's columns."""
    extra = manifest.get("extra_columns")
    return (
        isinstance(extra, dict)
        and {*map(str, extra.values())} <= {*kinds}
        and isinstance(manifest.get("has_reference"), bool)
        and all(isinstance(manifest.get(name, {}), dict) for name in _MAPPINGS)
        and all(isinstance(manifest.get(name, {}), (dict, NoneType)) for name in _MAPPINGS_OR_NULL)
        and all(_is_model(model) for model in manifest.get("models", {}).values())
        and all(map(_is_number, (manifest.get("noise") or {}).values()))
        and all(type(count) is int for count in (manifest.get("partial") or {}).values())
        and _is_data(manifest.get("data", {}))
        and _is_reading(manifest.get("settings", {}).get("data", {}))
        and _is_weights(manifest.get("weights") or {})
        and _is_tokenization(manifest.get("tokenization") or {})
        and _is_count(manifest.get(KEPT, 0))
    )


def _is_model(model: Any) -> bool:
    return isinstance(model, dict) and isinstance(model.get("name", ""), str)


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _is_data(data: Mapping[str, Any]) -> bool:
    files = data.get("files", [])
    named = isinstance(files, list) and all(isinstance(name, str) for name in files)
    return named and isinstance(data.get("source", ""), str) and isinstance(data.get("pairs", 0), int)


def _is_reading(asked: Any) -> bool:
    """Return whether these are valid settings for reading the rows again."""
    if not isinstance(asked, dict) or not isinstance(asked.get("dialect", ""), str):
        return False
    mapping = asked.get("mapping") or {}
    return isinstance(mapping, dict) and all(isinstance(column, str) for column in mapping.values())


def _is_weights(weights: Mapping[str, Any]) -> bool:
    return not weights or ("erased" in weights and isinstance(weights.get("equal"), (int, float)))


def _is_tokenization(found: Mapping[str, Any]) -> bool:
    left_out = found.get("left_out") or {}
    return isinstance(left_out, dict) and all(isinstance(pairs, int) for pairs in left_out.values())


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MOST_ALTERNATIVES


def check_schema(schema: pa.Schema, manifest: Mapping[str, Any], types: Mapping[str, pa.DataType], path: Path) -> None:
    """Refuse a file that does not have the columns of a ledger.

    Args:
        schema: The columns of the file.
        manifest: Its manifest, with the kinds of the data set's own columns and the number of alternatives.
        types: The Arrow type of each kind.
        path: Path of the file, for messages.

    Raises:
        DamagedLedgerError: If a column is missing, repeated, or of the wrong type.
    """
    required: dict[str, str] = {column.name: column.kind for column in (*STORED, *TEXTS)}
    tokens: dict[str, str] = {column.name: column.kind for column in TOKENS}
    extra = manifest["extra_columns"]
    if not tokens.keys().isdisjoint(schema.names):
        required |= tokens
    if manifest.get(KEPT):
        required |= tokens
    kept: dict[str, str] = {column.name: column.kind for column in ALTERNATIVES} if manifest.get(KEPT) else {}
    more = (*COLLISIONS, *DIVERGENCES, *TOKEN_DIVERGENCES)
    optional: dict[str, str] = {column.name: column.kind for column in more} | dict.fromkeys(DIGESTS, "digest")
    for name, kind in {**optional, **required, **extra, **kept}.items():
        found = schema.get_all_field_indices(name)
        if not found and name in optional:
            continue
        if len(found) != 1 or schema.field(name).type != types[kind]:
            raise damaged(path, f"column {name}")
