"""Turn the rows of a source into preference pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import BadRow, PreferencePair
from prefscope.data.sources import Source

_EXPORTED = {"pair_id", "policy_chosen_logps", "policy_rejected_logps", "chosen_num_tokens", "flags"}
"""Columns that identify a table written by `prefscope export`."""
_EXPORT_REASON = (
    "this table was exported by prefscope, and its texts are formatted for display; score the original data set, or "
    "write it again from the ledger: prefscope curate LEDGER -o data.jsonl"
)


def pairs_of(
    source: Source, *, dialect: str = "auto", mapping: Mapping[str, str] | None = None
) -> Iterator[tuple[PreferencePair, str] | BadRow]:
    """Yield each row's pair and the dialect it was read with, or a `BadRow` with the reason why it is not a pair.

    Raises:
        DataError: If the rest of the source cannot be read.
        UsageError: If the dialect is unknown, or the mapping is incomplete.
    """
    for row in source.rows():
        if isinstance(row, BadRow):
            yield row
            continue
        if row.value.keys() >= _EXPORTED:
            yield BadRow(row.row, row.line, _EXPORT_REASON, row.file)
            continue
        try:
            yield normalise(row, dialect=dialect, mapping=mapping)
        except NotAPairError as error:
            yield BadRow(row.row, row.line, error.reason, row.file)
