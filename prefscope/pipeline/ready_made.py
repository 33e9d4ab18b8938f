"""Import of log-probs computed elsewhere: a file with the four sums becomes a ledger, without running a model.

Columns are named as in the ledger: `policy_chosen_logps`, `policy_rejected_logps`, and with a reference
`ref_chosen_logps` and `ref_rejected_logps`; optionally `chosen_num_tokens` and `rejected_num_tokens`.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import BadRow, PreferencePair, SourceRow, readable
from prefscope.data.sources import Source, open_data
from prefscope.errors import DataError
from prefscope.events import Event, Finished, Noted
from prefscope.flags import LogpEvidence, join_flags, with_logp_flags
from prefscope.ledger.columns import LOGPS, NUM_TOKENS, POLICY_LOGPS, REF_LOGPS, all_columns
from prefscope.ledger.file import ROW_GROUP_PAIRS, ExtraKind, build_schema, store_as, widen, write_ledger
from prefscope.ledger.names import carried_names, renamed
from prefscope.pipeline.bad_rows import counted, judge_bad_rows
from prefscope.pipeline.given_numbers import count_of, flags_of, logp_of, pair_id_of
from prefscope.settings import DataSettings
from prefscope.version import __version__

_ASIDE = ("columns", "file")
"""Keys of a record that are not columns of the ledger."""


def offers_logps(settings: DataSettings) -> bool:
    """Return whether the first row of a data set has the policy's log-probs; always false for standard input.

    Raises:
        DataError: If the data set cannot be read.
    """
    if settings.source == "-":
        return False
    with closing(open_data(settings)) as source:
        first = next(iter(source.rows()), None)
    return isinstance(first, SourceRow) and all(name in first.value for name in POLICY_LOGPS)


def import_logps(settings: DataSettings, ledger: Callable[[str], Path], emit: Callable[[Event], None]) -> Path:
    """Write the ledger of a file of log-probs, and return its path.

    Raises:
        DataError: If bad rows are not to be skipped and a row has a missing or invalid value.
    """
    with closing(open_data(settings)) as source:
        bad: list[BadRow] = []
        unread: list[str] = []
        wanted = None
        if settings.sample is not None:
            total = sum(1 for _ in _records(source.rows(), settings, []))
            wanted = set(np.random.default_rng(settings.seed).permutation(total)[: settings.sample].tolist())
        kinds, pairs, has_reference, without = _survey(
            _taken(_records(source.rows(), settings, bad, unread), settings.limit, wanted)
        )
        bad = sorted([*bad, *without], key=lambda row: row.row)
        for note in judge_bad_rows(source.name, bad, pairs, skip=settings.skip_bad_rows):
            emit(note)
        if unread:
            rows = counted(len(unread), "row")
            emit(Noted(f"{source.name}: the texts of {rows} cannot be read; the first is {unread[0]}"))
        how = "with" if has_reference else "without"
        emit(Noted(f"{source.name}: {counted(pairs, 'row')} of log-probs, {how} a reference"))
        content_hash = source.content_hash()
        manifest = _manifest(source, settings, content_hash, pairs, len(bad), has_reference=has_reference)
        names = carried_names(kinds)
        manifest |= renamed(names)
        schema = build_schema({names[column]: kind for column, kind in kinds.items()}, manifest, tokens=False)
        path = ledger(content_hash[:16])
        records = _taken(_records(source.rows(), settings, []), settings.limit, wanted)
        complete = (record for record in records if not has_reference or _has_reference(record))
        write_ledger(path, schema, _groups(complete, kinds, names))
    emit(Finished(str(path), pairs, 0.0))
    return path


def _survey(records: Iterator[dict[str, Any]]) -> tuple[dict[str, ExtraKind], int, bool, list[BadRow]]:
    """Return the kinds of the data set's own columns, how many rows are good, whether these have a reference, bad rows.

    If any row has a reference, those without one are bad rows.
    """
    found: dict[str, ExtraKind | None] = {}
    rows, without = 0, list[BadRow]()
    for record in records:
        rows += 1
        if not _has_reference(record):
            problem = "the reference's log-probs are missing, but other rows have them"
            without.append(BadRow(record["row"], record["line"], problem, record["file"]))
        for name, value in record["columns"].items():
            found[name] = widen(found.get(name), value)
    has_reference = len(without) < rows
    bad = without if has_reference else []
    return {name: kind or "text" for name, kind in found.items()}, rows - len(bad), has_reference, bad


def _has_reference(record: Mapping[str, Any]) -> bool:
    return all(record[name] is not None for name in REF_LOGPS)


def _manifest(
    source: Source, settings: DataSettings, content_hash: str, pairs: int, bad_rows: int, *, has_reference: bool
) -> dict[str, Any]:
    return {
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "bundled": False,
        "has_reference": has_reference,
        "data": {
            "source": source.name,
            "content_hash": content_hash,
            "files": [str(file) for file in source.files],
            "pairs": pairs,
            "bad_rows": bad_rows,
            "dialects": {},
        },
        "models": {},
        "settings": {"data": asdict(settings)},
        "versions": {"prefscope": __version__},
    }


def _groups(
    records: Iterator[dict[str, Any]], kinds: Mapping[str, ExtraKind], names: Mapping[str, str]
) -> Iterator[dict[str, list[Any]]]:
    """Yield the columns of the ledger, a row group at a time."""
    while part := list(islice(records, ROW_GROUP_PAIRS)):
        group = {name: [record[name] for record in part] for name in part[0] if name not in _ASIDE}
        for column, stored_as in kinds.items():
            group[names[column]] = [store_as(stored_as, record["columns"].get(column)) for record in part]
        yield group


def _taken(
    records: Iterator[dict[str, Any]], limit: int | None, wanted: Container[int] | None
) -> Iterator[dict[str, Any]]:
    """Return the records at the wanted positions (None: all), up to the limit."""
    most = None if limit is None else min(limit, sys.maxsize)
    return islice((record for i, record in enumerate(records) if wanted is None or i in wanted), most)


def _records(
    rows: Iterator[SourceRow | BadRow], settings: DataSettings, bad: list[BadRow], unread: list[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield a record for each good row; collect bad rows, and the places of rows whose texts cannot be read."""
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        try:
            yield _record(row, settings, [] if unread is None else unread)
        except DataError as error:
            bad.append(BadRow(row.row, row.line, error.what, row.file))


def _record(row: SourceRow, settings: DataSettings, unread: list[str]) -> dict[str, Any]:
    has_texts = True
    try:
        pair, _ = normalise(row, dialect=settings.dialect, mapping=settings.mapping)
    except NotAPairError as error:
        if {"chosen", "rejected"} <= row.value.keys():
            unread.append(f"{row.file or 'line'}{':' if row.file else ' '}{row.line}: {error.reason}")
        # A row of log-probs needs no texts; the pair_id is then derived from the whole row.
        has_texts = False
        pair = PreferencePair(
            row.row, row.line, "", json.dumps(row.value, sort_keys=True, default=str), "", source=row.value
        )
    sums = {column: logp_of(row.value, column) for column in LOGPS}
    counts = {column: count_of(row.value, column) for column in NUM_TOKENS}
    missing = [column for column in POLICY_LOGPS if sums[column] is None]
    if missing:
        raise DataError(f"{missing[0]} is missing")
    absent = [column for column in REF_LOGPS if sums[column] is None]
    if len(absent) == 1:
        raise DataError(f"{absent[0]} is missing")
    known = [value for value in sums.values() if value is not None]
    reserved = {column.name for column in all_columns()}
    carried = {
        key: value for key, value in row.value.items() if key not in reserved and not key.endswith(("_loss", "_weight"))
    }
    return {
        "row": row.row,
        "line": row.line,
        "pair_id": pair_id_of(row.value) or pair.pair_id,
        **sums,
        **counts,
        "flags": join_flags(with_logp_flags(flags_of(row.value), LogpEvidence(bool(np.isfinite(known).all())))),
        "prompt": readable(pair.prompt),
        "chosen": readable(pair.chosen) if has_texts else "",
        "rejected": readable(pair.rejected),
        "source_json": json.dumps(row.value, ensure_ascii=False, default=str),
        "file": row.file,
        "columns": {key: value for key, value in carried.items() if key in pair.columns or not has_texts},
    }
