"""The ledger file of an unfinished run: what a live ledger knew at one moment, with the other pairs marked not scored.

Missing log-probs are nan and their pairs are flagged `not_scored`, so that any reader leaves them out of its means. The
manifest has the numbers of scored and of all pairs. The finished ledger takes the file's place.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.columns import DIGESTS, LOGPS, TOKENS
from prefscope.ledger.file import METADATA_KEY, PARTIAL, is_replaceable, open_parquet, write_ledger
from prefscope.ledger.opened import LedgerFile

if TYPE_CHECKING:
    import pyarrow as pa

    from prefscope.ledger.live import LiveLedger

TokenLogpsOfMany = Callable[[str, Sequence[bytes]], Sequence[NDArray[np.float32] | None]]
"""Returns the token log-probs of sequences by role and digests; None for each that is unknown."""
_ONE_AT_A_TIME = threading.Lock()


def partial_path(ledger: Path) -> Path:
    """Return where the partial ledger of a run is written: at the ledger's own path, or beside a complete one.

    >>> partial_path(Path("nowhere/run.parquet")).name
    'run.parquet'
    """
    return ledger if is_replaceable(ledger) else ledger.with_suffix(f".{PARTIAL}.parquet")


def write_partial(live: LiveLedger, lookup: TokenLogpsOfMany | None) -> bool:
    """Write what a live ledger knows to a file at its `saved_at`; return False if a complete ledger is there.

    Args:
        live: A snapshot, which no other thread changes.
        lookup: Finds token log-probs; None leaves the per-token columns out.

    Raises:
        ResourceError: If the file cannot be written.
        LedgerError: If the preview cannot be read.
    """
    with _ONE_AT_A_TIME:
        file, manifest = open_parquet(live.preview)
        left_out = {*DIGESTS, *(() if lookup else (column.name for column in TOKENS))}
        counts = {"scored": live.num_pairs - live.num_unscored, "pairs": live.num_pairs}
        content = json.dumps({**manifest, PARTIAL: counts}, ensure_ascii=False).encode()
        schema = file.schema_arrow.with_metadata({METADATA_KEY: content})
        for name in left_out & {*schema.names}:
            schema = schema.remove(schema.get_field_index(name))
        return write_ledger(live.saved_at, schema, _groups(file, live, schema.names, lookup), keep_complete=True)


def remove_partial(live: LiveLedger) -> None:
    """Remove a partial ledger that was written beside a complete one."""
    if live.saved_at != live.path:
        live.saved_at.unlink(missing_ok=True)


def _groups(
    file: LedgerFile, live: LiveLedger, names: Sequence[str], lookup: TokenLogpsOfMany | None
) -> Iterator[dict[str, Any]]:
    start = 0
    for group in range(file.num_row_groups):
        table = file.read_row_group(group)
        part = slice(start, start + table.num_rows)
        columns: dict[str, Any] = {name: table.column(name) for name in names}
        columns |= {name: live.stored[name][part] for name in (*LOGPS, "flags")}
        if not live.has_reference:
            columns |= {name: [None] * table.num_rows for name in LOGPS if name.startswith("ref_")}
        for column in TOKENS if lookup else ():
            role, side = column.name.split("_")[:2]
            if lookup and column.kind == "logps" and (role == "policy" or live.has_reference):
                columns[column.name] = _token_logps(table, lookup, role, side)
        yield columns
        start += table.num_rows


def _token_logps(table: pa.Table, lookup: TokenLogpsOfMany, role: str, side: str) -> list[NDArray[np.float32]]:
    """Return the token log-probs of one side of a row group, nan for sequences that are not scored."""
    found = lookup(role, table.column(f"{side}_digest").to_pylist())
    counts = table.column(f"{side}_num_tokens").to_pylist()
    return [
        np.full(count, np.nan, dtype=np.float32) if vector is None or len(vector) != count else vector
        for vector, count in zip(found, counts, strict=True)
    ]
