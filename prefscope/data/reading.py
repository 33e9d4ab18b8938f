"""Rows of a source as preference pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import BadRow, PreferencePair
from prefscope.data.sources import Source

_EXPORTED = {"pair_id", "policy_chosen_logps", "policy_rejected_logps", "chosen_num_tokens", "flags"}
"""Columns of the tables that `prefscope export` writes."""
_EXPORT_REASON = (
    "this is a table that prefscope exported, whose texts are those for people; score the data set itself, or write it "
    "anew: prefscope curate LEDGER -o data.jsonl"
)


def pairs_of(
    source: Source, *, dialect: str = "auto", mapping: Mapping[str, str] | None = None
) -> Iterator[tuple[PreferencePair, str] | BadRow]:
    """Yield every row's pair with the dialect that it was read in, or why it is none.

    Raises:
        DataError: What follows cannot be read at all.
        UsageError: There is no dialect of that name, or the mapping is incomplete.
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
