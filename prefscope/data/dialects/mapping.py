"""Layouts whose columns the user names: `--map prompt=col,chosen=col,rejected=col`."""

from __future__ import annotations

from collections.abc import Mapping

from prefscope.data.dialects.columns import ThreeColumns
from prefscope.data.dialects.conversations import TwoWholes
from prefscope.data.dialects.dialect import Dialect
from prefscope.data.dialects.side_columns import SideColumns
from prefscope.errors import UsageError

_PARTS = ("prompt", "chosen", "rejected", "system", "tools")
_EXAMPLE = "Write it as --map prompt=col,chosen=col,rejected=col (prompt, system and tools are optional)."


def parse_mapping(text: str) -> dict[str, str]:
    """Parse a mapping from fields to columns, such as `prompt=q,chosen=a,rejected=b`.

    Raises:
        UsageError: If the text is not of that form, or chosen or rejected is missing.
    """
    mapping: dict[str, str] = {}
    for item in text.split(","):
        part, equals, column = (piece.strip() for piece in item.partition("="))
        if not equals or not column:
            raise UsageError(f"'{item.strip()}' is not of the form part=column", where="--map", hint=_EXAMPLE)
        if part in mapping:
            raise UsageError(f"{part} is named twice", where="--map", hint=_EXAMPLE)
        mapping[part] = column
    mapped_dialect(mapping)
    return mapping


def mapped_dialect(mapping: Mapping[str, str]) -> Dialect:
    """Return the dialect named `map`, with the columns of a mapping.

    Without a prompt column, chosen and rejected are whole texts or conversations that begin with the prompt.

    Raises:
        UsageError: If the mapping has an unknown field, or chosen or rejected is missing.
    """
    for part in mapping:
        if part not in _PARTS:
            raise UsageError(f"'{part}' is not one of {', '.join(_PARTS)}", where="--map", hint=_EXAMPLE)
    for part in ("chosen", "rejected"):
        if part not in mapping:
            raise UsageError(f"no column is named for {part}", where="--map", hint=_EXAMPLE)
    side_columns = SideColumns(mapping.get("system", "system"), mapping.get("tools", "tools"))
    name, title, chosen, rejected = "map", "columns named with --map", mapping["chosen"], mapping["rejected"]
    if "prompt" in mapping:
        return ThreeColumns(name, title, (mapping["prompt"],), chosen, rejected, side_columns)
    return TwoWholes(name, title, chosen, rejected, side_columns=side_columns)
