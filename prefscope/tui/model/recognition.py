"""Identify what the data set field of the load screen names while the user types, without downloading anything."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prefscope.data.dialects import DIALECTS, NotAPairError, normalise
from prefscope.data.records import BadRow, SourceRow, readable
from prefscope.data.sources import FileSource, SeveralSources, open_source
from prefscope.errors import DamagedLedgerError, NewerLedgerError, PrefscopeError
from prefscope.ledger.columns import POLICY_LOGPS
from prefscope.ledger.file import PARTIAL, open_parquet
from prefscope.ledger.run_folder import is_run_folder

SAMPLED_ROWS = 400
MEASURED_PAIRS, MEASURED_CHARACTERS = 60, 8000
"""How many pairs are kept for estimates, and how much of each text."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Recognised:
    """What a field names; `good` is None if that is not known yet."""

    good: bool | None
    text: str


Texts = tuple[str, str, str]
"""Prompt, chosen and rejected."""


@dataclass(frozen=True, slots=True)
class DataFound(Recognised):
    """A data set, or a ledger."""

    pairs: int = 0
    sample: tuple[Texts, ...] = ()
    """The beginnings of some pairs' texts."""
    characters: float = 0.0
    """Mean number of characters of a pair: of its prompt and both responses."""
    is_ledger: bool = False
    has_logps: bool = False
    """Whether its rows have log-probs, so that no model is needed."""


def recognise_data(name: str) -> DataFound:
    """Identify what the data set field names."""
    if not name:
        return DataFound(None, "a file (jsonl, json, csv, parquet, .gz), a hub id, or a ledger")
    if name == "-":
        return DataFound(good=False, text="The screens cannot read standard input: save it to a file first.")
    path = Path(name).expanduser()
    if found := _recognise_ledger(path):
        return found
    if not path.exists() and HUB_ID.fullmatch(name) and not path.suffix:
        return DataFound(None, "not a local path: downloaded from the hub when scoring starts")
    try:
        return _recognise_rows(str(path))
    except PrefscopeError as error:
        return DataFound(good=False, text=error.what + ".")


def _recognise_ledger(path: Path) -> DataFound | None:
    """Describe a ledger or a run folder; None if it is neither."""
    if is_run_folder(path):
        return DataFound(good=True, text="a run folder of a training; it is opened, not scored", is_ledger=True)
    if path.suffix != ".parquet" or not path.is_file():
        return None
    try:
        _, manifest = open_parquet(path)
    except (NewerLedgerError, DamagedLedgerError) as error:
        return DataFound(good=False, text=f"{error.what}. {error.hint}")
    except PrefscopeError:
        return None  # a Parquet file of rows
    pairs = manifest.get("data", {}).get("pairs", 0)
    partial = manifest.get(PARTIAL) or {}
    scored = (
        f"{partial['scored']:,} of {pairs:,} pairs are scored" if "scored" in partial else f"{pairs:,} scored pairs"
    )
    return DataFound(good=True, text=f"a ledger: {scored}; it is opened, not scored", is_ledger=True)


def _recognise_rows(path: str) -> DataFound:
    """Identify the layout of a file from its first rows, and estimate the number of pairs from its size."""
    dialects: Counter[str] = Counter()
    bad, characters, rows, has_logps = 0, 0, 0, False
    sample: list[Texts] = []
    with closing(open_source(path)) as source:
        for row in islice(source.rows(), SAMPLED_ROWS):
            rows += 1
            if isinstance(row, BadRow):
                bad += 1
                continue
            has_logps |= rows == 1 and all(name in row.value for name in POLICY_LOGPS)
            try:
                pair, dialect = normalise(row)
            except NotAPairError:
                bad += 1
            else:
                dialects[dialect] += 1
                texts = readable(pair.prompt), readable(pair.chosen), readable(pair.rejected)
                characters += sum(map(len, texts))
                if len(sample) < MEASURED_PAIRS:
                    sample.append((_beginning(texts[0]), _beginning(texts[1]), _beginning(texts[2])))
        total, is_exact = (rows, True) if rows < SAMPLED_ROWS else _num_rows(source)
    if has_logps:
        return DataFound(good=True, text="rows with log-probs: no model needed", pairs=total, has_logps=True)
    if not dialects:
        return DataFound(good=False, text="None of the first rows is a preference pair.")
    layout = DIALECTS[key].title if (key := dialects.most_common(1)[0][0]) in DIALECTS else key
    good = rows - bad
    pairs = total * good // rows
    count = f"{pairs:,}" if is_exact else f"about {pairs:,}"
    text = f"{count} pairs · {layout}" + (f" · {bad:,} of {rows:,} rows are not pairs" if bad else "")
    return DataFound(not bad, text, pairs, tuple(sample), characters / good)


def _beginning(text: str) -> str:
    return text[:MEASURED_CHARACTERS]


def _num_rows(source: object) -> tuple[int, bool]:
    """Return the number of rows of a source longer than the sample, and whether the number is exact."""
    if isinstance(source, SeveralSources):
        counts = [_num_rows(part) for part in source.parts]
        return sum(count for count, _ in counts), all(is_exact for _, is_exact in counts)
    if not isinstance(source, FileSource):
        return SAMPLED_ROWS, False
    if source.format == "parquet" and source.compression is None:
        import pyarrow.parquet as pq

        return int(pq.read_metadata(source.path).num_rows), True
    values = [row.value for row in islice(source.rows(), SAMPLED_ROWS) if isinstance(row, SourceRow)]
    sampled = max(sum(len(json.dumps(value)) for value in values), 1)
    size = source.path.stat().st_size * (source.compression.ratio if source.compression else 1)
    if len(values) < SAMPLED_ROWS:
        return len(values), True
    return max(round(size / sampled * len(values) / 100) * 100, SAMPLED_ROWS), False
