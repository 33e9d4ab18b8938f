"""The layouts in which data sets write preference pairs: recognised, read, written back and swapped."""

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
"""Carried along with the rows of several files; a column of that name in the data set goes before it."""
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in _IN_ORDER}
"""Every dialect by its name, the most particular layouts first: a row has the first one that matches."""


def recognise(value: Row) -> Dialect:
    """Return the dialect that a row is written in, judged by its columns and their types.

    Raises:
        NotAPairError: If it is none.
    """
    for dialect in DIALECTS.values():
        if dialect.matches(value):
            return dialect
    raise refusal(value)


def dialect_of(value: Row, *, dialect: str = "auto", mapping: Mapping[str, str] | None = None) -> Dialect:
    """Return the dialect to read a row with: the mapping's, the one named, or the one recognised.

    Raises:
        NotAPairError: If the row lacks a mapped column, or no dialect is recognised.
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
        raise UsageError(f"there is no dialect '{dialect}'", hint=f"Known are: auto, {', '.join(DIALECTS)}.")
    return DIALECTS[dialect]


def _columns(row: SourceRow, parts: Fields) -> dict[str, Json]:
    """Return the columns that no part was read from, and the file of a row where the data set has several."""
    columns = {name: found for name, found in row.value.items() if name not in parts.consumed}
    return {FILE_COLUMN: row.file, **columns} if row.file else columns


def _nul_remark(parts: Fields) -> tuple[str, ...]:
    """Return that a text holds NUL, which is scored as it is and is damage more often than meant."""
    texts = (parts.prompt, parts.chosen, parts.rejected)
    turns = [text if isinstance(text, str) else "".join(turn.content or "" for turn in text) for text in texts]
    return ("a text holds the character NUL, which is scored, too",) if any("\0" in text for text in turns) else ()


def normalise(
    row: SourceRow, *, dialect: str = "auto", mapping: Mapping[str, str] | None = None
) -> tuple[PreferencePair, str]:
    """Return the preference pair that a row holds, and the name of the dialect it was read in.

    Args:
        row: The row as its file holds it.
        dialect: A name in `DIALECTS`, or `auto` to look at the row.
        mapping: The column of each part, as `parse_mapping` returns; it goes before `dialect`.

    Raises:
        NotAPairError: If the row holds no pair that can be read.
        UsageError: If there is no dialect of that name, or the mapping is incomplete.
    """
    value = row.value
    layout = dialect_of(value, dialect=dialect, mapping=mapping)
    refuse_media(value)
    parts = layout.read(value)
    if is_python_bytes(parts.chosen) and is_python_bytes(parts.rejected):
        raise NotAPairError("`chosen` and `rejected` are bytes as Python writes them; decode them")
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
