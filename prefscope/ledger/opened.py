"""An open ledger file: everything is verified before it is read, and errors name the damaged part.

Old ledgers without checksums can be read too; their values are checked for plausibility.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from prefscope.errors import UNREADABLE, LedgerError
from prefscope.ledger.checksums import Checksums, damaged, read_checksums
from prefscope.ledger.columns import (
    ALTERNATIVE_IDS,
    ALTERNATIVE_TEXTS,
    ALTERNATIVES,
    DIGESTS,
    LOGPS,
    NUM_TOKENS,
    STORED,
    TEXTS,
    TOKEN_DIVERGENCES,
    TOKENS,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_NEVER_NULL = frozenset(column.name for column in (*STORED, *TEXTS)) - {*LOGPS}
_OF_ALTERNATIVES = tuple(one for one in ALTERNATIVES if one.name.endswith(("_token_entropies", "_token_ranks")))
_PER_TOKEN = (*TOKENS, *TOKEN_DIVERGENCES, *_OF_ALTERNATIVES)
_LISTS = {count: [one.name for one in _PER_TOKEN if count.split("_")[0] in one.name] for count in NUM_TOKENS}
_TOKEN_LISTS = frozenset(column.name for column in (*TOKENS, *TOKEN_DIVERGENCES, *ALTERNATIVES))
_PAIRS_A_BYTE = 8
"""Upper bound on pairs per byte of a ledger file; a damaged count could exceed it and exhaust the memory."""


@dataclass(frozen=True, slots=True, eq=False)
class LedgerFile:
    """A Parquet file whose parts are verified on reading."""

    path: Path
    checksums: Checksums | None
    """None if the file is from before checksums were introduced."""
    _source: pa.NativeFile
    _file: pq.ParquetFile
    has_reference: bool = True
    """Whether the manifest says that there are reference log-probs; known only once the manifest is read."""
    alternatives: int = 0
    """The number of alternatives per token that the manifest says there are; known only then, too."""
    own: frozenset[str] = frozenset()
    """The data set's own columns, which could have any name before it was reserved; known only then, too."""

    @property
    def metadata(self) -> pq.FileMetaData:
        """The metadata in the footer."""
        return self._file.metadata

    @property
    def num_row_groups(self) -> int:
        """The number of row groups."""
        return int(self._file.num_row_groups)

    @property
    def schema_arrow(self) -> pa.Schema:
        """The columns and the file's metadata."""
        return self._file.schema_arrow

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Read columns of all pairs.

        Raises:
            DamagedLedgerError: If a column is damaged.
        """
        with self._reading(columns, None):
            self._verify(range(self.num_row_groups), columns)
            table = self._file.read(columns=[*columns])
            table.validate(full=True)
        return self._checked(table, self.metadata.num_rows)

    def read_row_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Read columns of a row group; None for all columns.

        Raises:
            DamagedLedgerError: If a column is damaged.
        """
        with self._reading(columns, group):
            self._verify([group], self.schema_arrow.names if columns is None else columns)
            table = self._file.read_row_group(group, columns=None if columns is None else [*columns])
            table.validate(full=True)
        return self._checked(table, self.metadata.row_group(group).num_rows)

    def check_sizes(self) -> None:
        """Refuse contradictory counts before memory is allocated for them.

        Raises:
            DamagedLedgerError: If counts contradict each other.
        """
        with self._reading([], None):
            metadata, size = self.metadata, self._source.size()
            groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            possible = metadata.num_rows == sum(groups) <= _PAIRS_A_BYTE * size and min(groups, default=0) >= 0
        if not possible or metadata.num_columns != len(self.schema_arrow.names):
            raise damaged(self.path, "the number of pairs or columns in the footer")

    def _verify(self, groups: Iterable[int], columns: Iterable[str]) -> None:
        if self.checksums is None:
            return
        places = [(name, self.schema_arrow.get_field_index(name)) for name in columns]
        for group in groups:
            for name, place in places:
                if place >= 0 and not self.checksums.check(self._source, self.metadata, group, place):
                    raise damaged(self.path, f"column {name} in row group {group}")

    def _checked(self, table: pa.Table, rows: int) -> pa.Table:
        """Return a table after checking that its values are possible in a ledger."""
        names = {*table.column_names} - self.own
        for name in sorted(names):
            if name in _NEVER_NULL and table.column(name).null_count:
                raise damaged(self.path, f"column {name}")
            if name in _TOKEN_LISTS and _misses_some(table.column(name)) and not self._may_miss(name):
                raise damaged(self.path, f"a list in column {name}")
        if table.num_rows != rows:
            raise damaged(self.path, f"column {', '.join(table.column_names)}")
        for count, lists in _LISTS.items():
            known = [name for name in (*lists, count) if name in names]
            for one, other in pairwise(known):
                if not _match(table, one, other):
                    raise damaged(self.path, f"the length of a list in column {one}")
        for longer, shorter, times in _multiples(self.alternatives):
            if {longer, shorter} <= names and not _match(table, longer, shorter, times):
                raise damaged(self.path, f"the length of a list in column {longer}")
        return table

    def _may_miss(self, name: str) -> bool:
        """Return whether a column of lists may be empty: before a run, or for a reference if there is none."""
        return not {*DIGESTS}.isdisjoint(self.schema_arrow.names) or (
            name.startswith("ref_") and not self.has_reference
        )

    @contextmanager
    def _reading(self, columns: Sequence[str] | None, group: int | None) -> Iterator[None]:
        """Turn pyarrow's exceptions for invalid bytes into a `DamagedLedgerError`."""
        import pyarrow as pa

        try:
            yield
        except (OSError, pa.ArrowException, *UNREADABLE) as error:
            part = "the footer" if columns == [] else _part(columns, group)
            raise damaged(self.path, part) from error


def open_file(source: pa.NativeFile, path: Path) -> LedgerFile:
    """Open a Parquet file after verifying its footer.

    Raises:
        LedgerError: If it is not a Parquet file, or its footer is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        checksums = read_checksums(source, path)
        # Without pre-buffering it is twice as fast with thousands of small row groups.
        file = pq.ParquetFile(source, pre_buffer=False, page_checksum_verification=True)
        _ = file.schema_arrow
    except (OSError, pa.ArrowException, *UNREADABLE) as error:
        raise LedgerError("This is not a complete Parquet file", where=str(path), hint="Create it again.") from error
    return LedgerFile(path, checksums, source, file)


def _part(columns: Sequence[str] | None, group: int | None) -> str:
    named = "a column" if columns is None else f"column {', '.join(columns)}"
    return named if group is None else f"{named} in row group {group}"


def _misses_some(lists: pa.ChunkedArray) -> bool:
    """Return whether a list, or a value in a list, is null."""
    import pyarrow.compute as pc

    return bool(lists.null_count or pc.list_flatten(lists).null_count)


def _multiples(alternatives: int) -> Iterator[tuple[str, str, int]]:
    """Yield columns whose lists are a number of times as long as those of another column."""
    for name in (one.name for one in ALTERNATIVES if one.name.endswith("_top_ids")):
        stem = name.removesuffix("top_ids")
        yield from ((name, f"{stem}token_ranks", alternatives), (f"{stem}top_logps", name, 1))
    yield ALTERNATIVE_TEXTS, ALTERNATIVE_IDS, 1


def _match(table: pa.Table, one: str, other: str, times: int = 1) -> bool:
    """Return whether the lists of a column are `times` as long as those of another, which may contain the lengths."""
    import pyarrow.compute as pc

    first, second = (
        values if str(values.type) == "int64" else pc.list_value_length(values)
        for values in (table.column(one), table.column(other))
    )
    expected = reduce(pc.add, [second] * times)  # pyarrow imports pandas to multiply by a Python number
    return pc.all(pc.equal(first, expected), min_count=0).as_py() is not False
