"""Decode Arrow columns of type `arrow.json`, in which `datasets` stores tool calls and mixed values."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from prefscope.data.records import Json

if TYPE_CHECKING:
    import pyarrow as pa

Decode: TypeAlias = Callable[[Json], Json]
_JSON = "extension<arrow.json>"


def json_decoders(schema: pa.Schema) -> Mapping[str, Decode]:
    """Return a decoder for each column that is JSON or contains JSON, by column name."""
    found = {field.name: _decoder(field.type) for field in schema}
    return {name: decode for name, decode in found.items() if decode is not None}


def _decoder(kind: pa.DataType) -> Decode | None:
    import pyarrow as pa

    if str(kind) == _JSON:
        return lambda found: json.loads(found) if isinstance(found, str) else found
    if pa.types.is_struct(kind):
        fields = json_decoders(kind)
        return _decode_fields(fields) if fields else None
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = _decoder(kind.value_type)
        return _decode_items(item) if item else None
    return None


def _decode_fields(fields: Mapping[str, Decode]) -> Decode:
    def decode(found: Json) -> Json:
        if not isinstance(found, dict):
            return found
        return {key: fields[key](item) if key in fields else item for key, item in found.items()}

    return decode


def _decode_items(item: Decode) -> Decode:
    return lambda found: [item(one) for one in found] if isinstance(found, list) else found
