"""JSON objects that contain a whole table: by column, by row index, or several such tables as splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

from prefscope.data.records import Json
from prefscope.errors import DataError

INNER_LISTS = frozenset(
    {"tools", "functions", "tool_calls", "documents", "images", "completions", "responses", "answers", "summaries"}
)
"""Keys whose lists of objects belong to a single row."""
ROW_COLUMNS = frozenset(
    {
        *("prompt", "question", "instruction", "input", "context", "query", "messages", "conversations", "contents"),
        *("chosen", "rejected", "chosen_response", "rejected_response", "chosen_messages", "rejected_messages"),
        *("preferred_output", "non_preferred_output", "response_j", "response_k", "answer_w", "answer_l"),
    }
)
"""Columns that mark an object as a row or as a column-wise table."""
Table = list[dict[str, Json]]


def is_rows(found: Json) -> bool:
    """Return whether a value is a list of rows: a list of objects that are not turns of a conversation."""
    first = found[0] if isinstance(found, list) and found else None
    return isinstance(first, dict) and not {"role", "from"} & first.keys()


def holds_rows(value: Json) -> bool:
    """Return whether an object contains rows, as lists or as a table, rather than being a row."""
    if not isinstance(value, dict):
        return False
    if any(is_rows(found) and key not in INNER_LISTS for key, found in value.items()):
        return not ROW_COLUMNS & value.keys()
    return _is_table(value) or _are_splits(value)


def rows_of_table(value: dict[str, Json], name: str, split: str | None) -> Table:
    """Return the rows of a table in an object; an object that is a row is returned as the only row.

    Raises:
        DataError: If there are several splits and none is named, or the columns differ in length.
    """
    if _are_splits(value):
        if split is None and len(value) == 1:
            split = next(iter(value))
        if split not in value:
            named = ", ".join(f"`{one}`" for one in value)
            asked = f"has no split `{split}`; its splits: {named}" if split else f"contains several tables: {named}"
            raise DataError(asked, where=name, hint="" if split else f"Name one with --split {next(iter(value))}.")
        return rows_of_table(value[str(split)], name, None)
    if split is not None:
        raise DataError(f"contains no splits; there is no `{split}`", where=name, hint="Omit --split.")
    if not _is_table(value):
        return [value]
    if _is_split_orient(value):
        rows = value["data"]
        _check_lengths({len(value["columns"]), *map(len, rows)}, name)
        return [dict(zip(value["columns"], row, strict=True)) for row in rows]
    if _is_columns_of_lists(value):
        _check_lengths({len(column) for column in value.values()}, name)
        return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
    if _has_row_columns(value):
        _check_lengths({len(column) for column in value.values()}, name)
        index = next(iter(value.values()))
        return [{column: found[key] for column, found in value.items()} for key in index]
    return [dict(row) for row in value.values()]


def _check_lengths(lengths: set[int], name: str) -> None:
    if len(lengths) > 1:
        raise DataError(
            f"is a column-wise table whose columns differ in length ({', '.join(map(str, sorted(lengths)))} values)",
            where=name,
            hint="Write one object per row.",
        )


def _are_splits(value: Mapping[str, Json]) -> bool:
    return bool(value) and not _has_row_columns(value) and all(_is_table(found) for found in value.values())


def _is_table(value: Json) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    return _is_split_orient(value) or _is_columns_of_lists(value) or _is_objects(value)


def _is_split_orient(value: Mapping[str, Json]) -> bool:
    """Return whether this is a table written by pandas with orient="split"."""
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return False
    return all(isinstance(column, str) for column in columns) and all(isinstance(row, list) for row in data)


def _is_columns_of_lists(value: Mapping[str, Json]) -> bool:
    """Return whether every value is a column's list of values, and none is the turns of one conversation."""
    lists = all(isinstance(found, list) and found for found in value.values())
    return lists and _has_row_columns(value) and not any(_is_turn(found[0]) for found in value.values())


def _is_objects(value: Mapping[str, Json]) -> bool:
    """Return whether every value is an object: a column keyed by index, or a row keyed by column."""
    if not all(isinstance(found, dict) and found and not _is_turn(found) for found in value.values()):
        return False
    if _has_row_columns(value):
        alike = len({frozenset(found) for found in value.values()}) == 1
        return alike and all(key.isdecimal() for key in next(iter(value.values())))
    return all(_has_row_columns(found) for found in value.values())


def _has_row_columns(value: Mapping[str, Json]) -> bool:
    return bool(ROW_COLUMNS & value.keys()) or any("chosen" in key or "rejected" in key for key in value)


def _is_turn(found: Json) -> TypeGuard[Mapping[str, Json]]:
    return isinstance(found, Mapping) and bool({"role", "from"} & found.keys())
