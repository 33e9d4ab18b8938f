"""Recognise, read, write and swap the layouts in which data sets store preference pairs."""

from __future__ import annotations

from collections.abc import Mapping

from prefscope.data.dialects.alpaca import MS_SWIFT_QUERY, Alpaca
from prefscope.data.dialects.cells import is_python_bytes
from prefscope.data.dialects.columns import (
    ANSWER_WL,
    ARGILLA,
    AXOLOTL_CHAT,
    OPENAI,
    QUESTION,
    RESPONSE_JK,
    SHAREGPT,
    TRL,
)
from prefscope.data.dialects.conversations import (
    HH,
    LLAMAFACTORY_V1,
    MS_SWIFT_MESSAGES,
    TORCHTUNE,
    TRL_IMPLICIT,
    ULTRAFEEDBACK,
)
from prefscope.data.dialects.dialect import Dialect, Fields, NotAPairError, Row, columns_found
from prefscope.data.dialects.mapping import mapped_dialect, parse_mapping
from prefscope.data.dialects.ms_swift import MsSwift
from prefscope.data.dialects.refusals import refusal
from prefscope.data.dialects.side_columns import refuse_media
from prefscope.data.dialects.unused import unused_columns
from prefscope.data.records import Json, PreferencePair, SourceRow
from prefscope.errors import UsageError

__all__ = [
    "DIALECTS",
    "Dialect",
    "NotAPairError",
    "Parts",
    "dialect_of",
    "mapped_dialect",
    "normalise",
    "parse_mapping",
    "recognise",
]

_IN_ORDER: tuple[Dialect, ...] = (
    LLAMAFACTORY_V1,
    TORCHTUNE,
    OPENAI,
    ARGILLA,
    MS_SWIFT_MESSAGES,
    MsSwift(),
    RESPONSE_JK,
    ANSWER_WL,
    ULTRAFEEDBACK,
    TRL,
    SHAREGPT,
    AXOLOTL_CHAT,
    Alpaca(),
    MS_SWIFT_QUERY,
    QUESTION,
    HH,
    TRL_IMPLICIT,
)

FILE_COLUMN = "source_file"
"""Column with the source file of each row, if there are several; a column of the data set takes precedence."""
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _IN_ORDER}
"""All dialects by name, the most specific first: the first that matches a row is used."""


def recognise(value: Row) -> Dialect:
    """Return the dialect of a row, judged by its columns and their types.

    Raises:
        NotAPairError: If no dialect matches.
    """
    for dialect in DIALECTS.values():
        if dialect.matches(value):
            return dialect
    raise refusal(value)


def dialect_of(value: Row, *, dialect: str = "auto", mapping: Mapping[str, str] | None = None) -> Dialect:
    """Return the dialect to read a row with: that of the mapping, the named one, or the recognised one.

    Raises:
        NotAPairError: If a mapped column is missing, or no dialect matches.
        UsageError: If there is no dialect of that name, or the mapping is incomplete.
    """
    if mapping:
        missing = [column for column in mapping.values() if column not in value]
        if missing:
            raise NotAPairError(f"`{missing[0]}` is missing; {columns_found(value)}")
        return mapped_dialect(mapping)
    if dialect == "auto":
        return recognise(value)
    if dialect not in DIALECTS:
        raise UsageError(f"there is no dialect '{dialect}'", hint=f"Choose from: auto, {', '.join(DIALECTS)}.")
    return DIALECTS[dialect]


def _columns(row: SourceRow, parts: Fields) -> dict[str, Json]:
    """Return the columns that no field was read from, and the file of the row if the data set has several."""
    columns = {name: found for name, found in row.value.items() if name not in parts.consumed}
    return {FILE_COLUMN: row.file, **columns} if row.file else columns


def _nul_remark(parts: Fields) -> tuple[str, ...]:
    """Return a remark if a text contains NUL: it is scored, but is more often damage than intended."""
    texts = (parts.prompt, parts.chosen, parts.rejected)
    turns = [text if isinstance(text, str) else "".join(turn.content or "" for turn in text) for text in texts]
    return ("a text contains NUL characters, which are scored too",) if any("\0" in text for text in turns) else ()


def normalise(
    row: SourceRow, *, dialect: str = "auto", mapping: Mapping[str, str] | None = None
) -> tuple[PreferencePair, str]:
    """Return the preference pair in a row, and the name of the dialect it was read with.

    Args:
        row: The row as stored.
        dialect: A name in `DIALECTS`, or `auto` to recognise it.
        mapping: The column of each field, as returned by `parse_mapping`; takes precedence over `dialect`.

    Raises:
        NotAPairError: If the row does not contain a readable pair.
        UsageError: If there is no dialect of that name, or the mapping is incomplete.
    """
    value = row.value
    layout = dialect_of(value, dialect=dialect, mapping=mapping)
    refuse_media(value)
    parts = layout.read(value)
    if is_python_bytes(parts.chosen) and is_python_bytes(parts.rejected):
        raise NotAPairError("`chosen` and `rejected` are bytes as printed by Python; decode them")
    pair = PreferencePair(
        row=row.row,
        line=row.line,
        prompt=parts.prompt,
        chosen=parts.chosen,
        rejected=parts.rejected,
        tools=parts.tools,
        chat_template_kwargs=parts.chat_template_kwargs,
        columns=_columns(row, parts),
        source=value,
        file=row.file,
        remarks=(*row.remarks, *unused_columns(value, parts, mapping), *_nul_remark(parts)),
    )
    return pair, layout.name
