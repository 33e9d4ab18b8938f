"""Layouts that the user names column by column: `--map prompt=col,chosen=col,rejected=col`."""

from __future__ import annotations

from collections.abc import Mapping

from prefscope.data.dialects.columns import ThreeColumns
from prefscope.data.dialects.conversations import TwoWholes
from prefscope.data.dialects.dialect import Dialect
from prefscope.data.dialects.side_columns import SideColumns
from prefscope.errors import UsageError

_PARTS = ("prompt", "chosen", "rejected", "system", "tools")
_EXAMPLE = "Write it as --map prompt=col,chosen=col,rejected=col (prompt, system and tools may be left out)."


def parse_mapping(text: str) -> dict[str, str]:
    """Return the column of each part that a text like `prompt=q,chosen=a,rejected=b` names.

    Raises:
        UsageError: If the text is not of that form, or names no chosen or no rejected column.
    """
    mapping: dict[str, str] = {}
    for item in text.split(","):
        part, equals, column = (piece.strip() for piece in item.partition("="))
        if not equals or not column:
            raise UsageError(f"'{item.strip()}' is no part=column", where="--map", hint=_EXAMPLE)
        if part in mapping:
            raise UsageError(f"{part} is named twice", where="--map", hint=_EXAMPLE)
        mapping[part] = column
    mapped_dialect(mapping)
    return mapping


def mapped_dialect(mapping: Mapping[str, str]) -> Dialect:
    """Return the dialect, named `map`, whose columns are those of the mapping.

    Without a prompt, chosen and rejected are whole texts or conversations that begin with it.

    Raises:
        UsageError: If the mapping has an unknown part, or no chosen or no rejected column.
    """
    for part in mapping:
        if part not in _PARTS:
            raise UsageError(f"'{part}' is none of {', '.join(_PARTS)}", where="--map", hint=_EXAMPLE)
    for part in ("chosen", "rejected"):
        if part not in mapping:
            raise UsageError(f"no column for {part} is named", where="--map", hint=_EXAMPLE)
    beside = SideColumns(mapping.get("system", "system"), mapping.get("tools", "tools"))
    name, title, chosen, rejected = "map", "columns named with --map", mapping["chosen"], mapping["rejected"]
    if "prompt" in mapping:
        return ThreeColumns(name, title, (mapping["prompt"],), chosen, rejected, beside)
    return TwoWholes(name, title, chosen, rejected, beside=beside)
