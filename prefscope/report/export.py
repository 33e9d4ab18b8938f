"""Write a ledger as a flat table: CSV, TSV, JSON lines or Parquet by the suffix, one row group at a time.

Columns are `row`, `pair_id`, the data set's own, those of ledger/columns.py, `mark` and `note` if the ledger has marks,
and optionally the texts.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from prefscope.ledger.columns import DERIVED, NUM_TOKENS, STORED, TEXTS
from prefscope.ledger.file import arrow_types
from prefscope.ledger.marks import load_marks
from prefscope.ledger.names import marked_names
from prefscope.ledger.table import Ledger
from prefscope.report.files import UnixLines, known_suffix, refuse_sources, text_file, whole_file
from prefscope.settings import PreferenceSettings

TEXT_COLUMNS = ("prompt", "chosen", "rejected")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of cells that spreadsheets treat as formulas."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
Block = Mapping[str, Sequence[Any]]
"""Columns of consecutive pairs; missing values are None."""


def blocks(ledger: Ledger, preferences: PreferenceSettings, *, texts: bool) -> Iterator[Block]:
    """Yield the flat table by row groups; all blocks have the same columns.

    Raises:
        UsageError: A loss cannot be computed from this ledger.
        LedgerError: The marks cannot be read.
    """
    derived = ledger.derived(preferences)
    marks = load_marks(ledger.path)
    named = marked_names(ledger.extra_columns) if len(marks) else {}
    of_user = {name: marks.column(ledger, what) for name, what in named.items()}
    read = [*ledger.extra_columns, *(TEXT_COLUMNS if texts else ())]
    start = 0
    for group in ledger.read(["row", *read]):
        size = len(group["row"])
        part = slice(start, start + size)
        absent = [None] * size

        def stored(name: str, part: slice = part, absent: list[None] = absent) -> Sequence[Any]:
            if name.startswith("ref_") and not ledger.has_reference:
                return absent
            values: list[Any] = ledger.stored[name][part].tolist()
            return [None if name in NUM_TOKENS and value < 0 else value for value in values]

        block: dict[str, Sequence[Any]] = {name: stored(name) for name in ("row", "pair_id")}
        block |= {name: group[name] for name in ledger.extra_columns}
        block |= {name: stored(name) for name in ledger.numbers}
        block |= dict.fromkeys((column.name for column in DERIVED.values() if column.exported), absent)
        block |= {name: values[part].tolist() for name, values in derived.items()}
        block["flags"] = stored("flags")
        block |= {name: values[part].tolist() for name, values in of_user.items()}
        if texts:
            block |= {name: group[name] for name in TEXT_COLUMNS}
        yield block
        start += size


def _write_separated(stream: TextIO, table: Iterator[Block], delimiter: str) -> None:
    writer = csv.writer(UnixLines(stream), delimiter=delimiter)
    header: list[str] | None = None
    for block in table:
        if header is None:
            header = list(block)
            writer.writerow(header)
        # str(float) is the shortest text that reads back as the same number; csv writes None as an empty cell.
        writer.writerows(zip(*block.values(), strict=True))


def _write_csv(stream: TextIO, table: Iterator[Block]) -> None:
    _write_separated(stream, table, ",")


def _write_tsv(stream: TextIO, table: Iterator[Block]) -> None:
    _write_separated(stream, table, "\t")


def _write_jsonl(stream: TextIO, table: Iterator[Block]) -> None:
    """Write JSON lines; non-finite numbers become null, as JSON cannot express them."""
    for block in table:
        for row in zip(*block.values(), strict=True):
            cleaned = (None if isinstance(value, float) and not math.isfinite(value) else value for value in row)
            stream.write(json.dumps(dict(zip(block, cleaned, strict=True)), ensure_ascii=False) + "\n")


_TEXT_WRITERS: dict[str, Callable[[TextIO, Iterator[Block]], None]] = {
    ".csv": _write_csv,
    ".tsv": _write_tsv,
    ".jsonl": _write_jsonl,
}
SUFFIXES = (*_TEXT_WRITERS, *(f"{suffix}.gz" for suffix in _TEXT_WRITERS), ".parquet")


def export_suffix(path: str) -> str:
    """Return the suffix that determines the format of an output file.

    Raises:
        UsageError: The suffix is unknown.
    """
    return known_suffix(path, SUFFIXES)


def export(
    ledger: Ledger, preferences: PreferenceSettings, path: Path, *, texts: bool = False, csv_safe: bool = False
) -> None:
    """Write the flat table to a file, in the format of its suffix; the file appears only once it is complete.

    Args:
        ledger: The ledger to write.
        preferences: Beta and losses.
        path: The output file.
        texts: Include prompt, chosen and rejected.
        csv_safe: In CSV and TSV, put an apostrophe before text that a spreadsheet would run as a formula.

    Raises:
        UsageError: The suffix is unknown, the path is the ledger's, or a loss cannot be computed from this ledger.
        LedgerError: The marks cannot be read.
        ResourceError: The file cannot be written.
    """
    suffix = export_suffix(path.name)
    refuse_sources(path, ledger)
    table = blocks(ledger, preferences, texts=texts)
    table = formula_safe(table) if csv_safe and suffix.startswith((".csv", ".tsv")) else table
    kinds = {column.name: column.kind for column in (*STORED, *TEXTS, *DERIVED.values())} | dict(ledger.extra_columns)
    kinds |= dict.fromkeys(marked_names(ledger.extra_columns), "text")
    write_table(path, table, kinds)


def write_table(path: Path, table: Iterator[Block], kinds: Mapping[str, str]) -> None:
    """Write blocks to a file, in the format of its suffix; the file appears only once it is complete.

    Args:
        path: The output file.
        table: At least one block; all have the same columns.
        kinds: Kinds of the columns, for Parquet; columns not listed are numbers.

    Raises:
        UsageError: The suffix is unknown.
        ResourceError: The file cannot be written.
    """
    suffix = export_suffix(path.name)
    with whole_file(path) as part:
        if suffix == ".parquet":
            _write_parquet(part, table, kinds)
        else:
            with text_file(part, packed=suffix.endswith(".gz")) as stream:
                _TEXT_WRITERS[suffix.removesuffix(".gz")](stream, table)


def write_csv(
    ledger: Ledger, preferences: PreferenceSettings, stream: TextIO, *, texts: bool = False, csv_safe: bool = False
) -> None:
    """Write the flat table as CSV to an open stream; `csv_safe` as in `export`."""
    table = blocks(ledger, preferences, texts=texts)
    _write_csv(stream, formula_safe(table) if csv_safe else table)


def formula_safe(table: Iterator[Block]) -> Iterator[Block]:
    """Yield a table whose texts and column names are not formulas to a spreadsheet."""
    for block in table:
        yield {_no_formula(name): [_no_formula(value) for value in values] for name, values in block.items()}


def _no_formula(value: Any) -> Any:
    """Return a value, with an apostrophe before text that begins like a formula and is not a number."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def _write_parquet(path: Path, table: Iterator[Block], kinds: Mapping[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = arrow_types()
    writer: pq.ParquetWriter | None = None
    try:
        for block in table:
            schema = pa.schema([(name, types[kinds.get(name, "number")]) for name in block])
            writer = writer or pq.ParquetWriter(path, schema, compression="zstd")
            writer.write_table(pa.table(dict(block), schema=schema))
    finally:
        if writer is not None:
            writer.close()
