"""Log-probs that somebody computed elsewhere: a file with the four sums becomes a ledger without any model.

The columns are named as in the ledger: `policy_chosen_logps`, `policy_rejected_logps`, and, where there is a reference,
`ref_chosen_logps` and `ref_rejected_logps`; `chosen_num_tokens` and `rejected_num_tokens` where known.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import prefscope
from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import BadRow, Json, PreferencePair, SourceRow, readable
from prefscope.data.sources import open_source
from prefscope.errors import DataError
from prefscope.events import Event, Finished, Noted
from prefscope.ledger.columns import LOGPS, NUM_TOKENS, RESERVED, export_name
from prefscope.ledger.file import ROW_GROUP_PAIRS, ExtraKind, build_schema, store_as, widen, write_ledger
from prefscope.settings import DataSettings

POLICY_LOGPS, REF_LOGPS = LOGPS[:2], LOGPS[2:]


def offers_logps(settings: DataSettings) -> bool:
    """Return whether the first row of a data set has the policy's log-probs; standard input is not looked at.

    Raises:
        DataError: The data set cannot be read.
    """
    if settings.source == "-":
        return False
    asked = settings
    with closing(open_source(asked.source, split=asked.split, config=asked.config, revision=asked.revision)) as source:
        first = next(iter(source.rows()), None)
    return isinstance(first, SourceRow) and all(name in first.value for name in POLICY_LOGPS)


def import_logps(settings: DataSettings, ledger: Callable[[str], Path], emit: Callable[[Event], None]) -> Path:
    """Write the ledger of a file of log-probs and return its path.

    Raises:
        DataError: A row lacks a log-prob, or holds something else than a number there.
    """
    asked = settings
    with closing(open_source(asked.source, split=asked.split, config=asked.config, revision=asked.revision)) as source:
        found: dict[str, ExtraKind | None] = {}
        has_reference, pairs = True, 0
        for record in _records(source.rows(), settings, source.name):
            pairs += 1
            has_reference &= record["ref_chosen_logps"] is not None and record["ref_rejected_logps"] is not None
            for name, value in record["columns"].items():
                found[name] = widen(found.get(name), value)
        if pairs == 0:
            raise DataError("There is no row in this file", where=source.name)
        kinds: dict[str, ExtraKind] = {name: kind or "text" for name, kind in found.items()}
        content_hash = source.content_hash()
        manifest = {
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "bundled": False,
            "has_reference": has_reference,
            "data": {
                "source": source.name,
                "content_hash": content_hash,
                "pairs": pairs,
                "bad_rows": 0,
                "dialects": {},
            },
            "models": {},
            "versions": {"prefscope": prefscope.__version__},
        }
        emit(Noted(f"{source.name}: {pairs:,} rows of log-probs, {'with' if has_reference else 'without'} a reference"))
        path = ledger(content_hash[:16])
        records = _records(source.rows(), settings, source.name)
        write_ledger(path, build_schema(kinds, manifest, tokens=False), _groups(records, kinds))
    emit(Finished(str(path), pairs, 0.0))
    return path


def _groups(records: Iterator[dict[str, Any]], kinds: Mapping[str, ExtraKind]) -> Iterator[dict[str, list[Any]]]:
    """Yield the columns of the ledger, a row group at a time."""
    while part := list(islice(records, ROW_GROUP_PAIRS)):
        names = [name for name in part[0] if name != "columns"]
        group = {name: [record[name] for record in part] for name in names}
        for name, kind in kinds.items():
            group[name] = [store_as(kind, record["columns"].get(name)) for record in part]
        yield group


def _records(rows: Iterator[SourceRow | BadRow], settings: DataSettings, name: str) -> Iterator[dict[str, Any]]:
    """Yield what the ledger stores of each row."""
    for row in islice(rows, settings.limit):
        if isinstance(row, BadRow):
            raise DataError(row.reason, where=f"{name}:{row.line}")
        yield _record(row, settings, name)


def _record(row: SourceRow, settings: DataSettings, name: str) -> dict[str, Any]:
    try:
        pair, _ = normalise(row, dialect=settings.dialect, mapping=settings.mapping)
    except NotAPairError:
        # Log-probs need no texts; the whole row then names the pair.
        pair = PreferencePair(
            row.row, row.line, "", json.dumps(row.value, sort_keys=True, default=str), "", source=row.value
        )
    sums = {column: _number(row, column, name) for column in LOGPS}
    counts = {column: _number(row, column, name) for column in NUM_TOKENS}
    missing = [column for column in POLICY_LOGPS if sums[column] is None]
    if missing:
        raise DataError(
            f"{missing[0]} is missing", where=f"{name}:{row.line}", hint="Every row needs the policy's log-probs."
        )
    known = [value for value in sums.values() if value is not None]
    carried = {
        key: value for key, value in row.value.items() if key not in RESERVED and not key.endswith(("_loss", "_weight"))
    }
    has_texts = bool(pair.rejected)
    return {
        "row": row.row,
        "line": row.line,
        "pair_id": row.value.get("pair_id") or pair.pair_id,
        **sums,
        **{column: -1 if value is None else int(value) for column, value in counts.items()},
        "flags": "" if np.isfinite(known).all() else "non_finite",
        "prompt": readable(pair.prompt),
        "chosen": readable(pair.chosen) if has_texts else "",
        "rejected": readable(pair.rejected),
        "source_json": json.dumps(row.value, ensure_ascii=False, default=str),
        "columns": {export_name(key): value for key, value in carried.items() if key in pair.columns or not has_texts},
    }


def _number(row: SourceRow, column: str, name: str) -> float | None:
    """Return the number in a column: CSV has text, an empty cell is none."""
    value: Json = row.value.get(column)
    if value is None or value == "":
        return None
    try:
        return float(str(value))  # the text of a boolean is no number, a boolean itself would be
    except ValueError:
        raise DataError(f"{column} is {value!r}, not a number", where=f"{name}:{row.line}") from None
