"""Hostile ledgers, marks, filter expressions and UI state."""

from __future__ import annotations

import io
import json
import operator
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import prefscope
from prefscope.cli.compare import compare
from prefscope.cli.curate import curate
from prefscope.cli.export import export
from prefscope.cli.report import report
from prefscope.folders import sample_data
from prefscope.ledger.checksums import MARKER_KEY, seal
from prefscope.ledger.columns import STORED
from prefscope.ledger.file import METADATA_KEY
from prefscope.ledger.marks import load_marks, marks_path
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View
from prefscope.report.document import build_document
from prefscope.report.export import write_csv
from prefscope.report.html import as_html
from prefscope.settings import DataSettings, PreferenceSettings
from prefscope.tui.model.state import Opened, Remembered, recall, remember, remembered_file
from tests.campaigns.mutations import EXTREMES, damaged_bytes, damaged_json, json_text
from tests.campaigns.trials import Boundary, Read, Try, WrongValueError

PAIRS = 6


def _scored(folder: Path) -> Path:
    """Return a fresh ledger of the first bundled pairs."""
    path, samples = folder / "ledger.parquet", sample_data()
    models = samples / "tiny-policy", samples / "tiny-ref"
    settings = DataSettings("", limit=PAIRS)
    return prefscope.score(samples / "pairs.jsonl", *models, data_settings=settings, output=path).path


def content(ledger: Ledger) -> str:
    """Return everything that can be read from a ledger."""
    stored = {column.name: ledger.stored[column.name].tolist() for column in STORED}
    return repr((stored, [ledger.pair(position) for position in range(ledger.num_pairs)]))


def ledger_bytes(folder: Path) -> Try:
    """Damage the bytes of a ledger: it must be refused, or read back unchanged."""
    path = _scored(folder)
    whole, expected = path.read_bytes(), content(load_ledger(path))

    def attempt(draw: Random) -> tuple[object, Read]:
        raw = damaged_bytes(draw, whole)
        path.write_bytes(raw)

        def read() -> None:
            if content(load_ledger(path)) != expected:
                raise WrongValueError("the ledger was read with other values")

        return f"{len(raw)} bytes", read

    return attempt


def _without_checksums(path: Path) -> pa.Table:
    """Return a ledger as written before there were checksums."""
    table = pq.read_table(path)
    metadata = {key: value for key, value in table.schema.metadata.items() if key != MARKER_KEY}
    return table.replace_schema_metadata(metadata)


def old_ledger_bytes(folder: Path) -> Try:
    """Damage the bytes of a ledger without checksums: it must only be refused or read."""
    path = _scored(folder)
    pq.write_table(_without_checksums(path), path)
    whole = path.read_bytes()

    def attempt(draw: Random) -> tuple[object, Read]:
        path.write_bytes(damaged_bytes(draw, whole))
        return f"{len(whole)} bytes", lambda: _read_all(path)

    return attempt


def _read_all(path: Path) -> None:
    ledger = load_ledger(path)
    content(ledger)
    write_csv(ledger, PreferenceSettings(), io.StringIO(), texts=True, csv_safe=True)


def ledger_values(folder: Path) -> Try:
    """Write Parquet files with the columns of a ledger and wrong values, and pass them to the commands."""
    path, copy = _scored(folder), folder / "copy.parquet"
    copy.write_bytes(path.read_bytes())
    table = _without_checksums(path)

    def attempt(draw: Random) -> tuple[object, Read]:
        changed, what = _changed_table(draw, table)
        pq.write_table(changed, path, row_group_size=draw.choice((2, 500)))
        if draw.random() < 0.5:
            seal(path, changed.schema.metadata[METADATA_KEY])
        return what, draw.choice(_readers(path, copy))

    return attempt


def _readers(path: Path, copy: Path) -> list[Read]:
    def write_html() -> None:
        as_html(build_document(load_ledger(path), PreferenceSettings(), (), diagnosis=True))

    return [
        lambda: _read_all(path),
        lambda: report(path, as_json=True),
        lambda: report(path, by=["row"]),
        write_html,
        lambda: export(path, ["-"], where="margin < 0 or flag(truncated) or lint(duplicate_pairs)", texts=True),
        lambda: curate(path, "-"),
        lambda: compare([copy, path], as_json=True),
    ]


def _changed_table(draw: Random, table: pa.Table) -> tuple[pa.Table, str]:
    """Return a table with odd values in one column or odd entries in its manifest, and what was changed."""
    if draw.random() < 0.4:
        manifest = damaged_json(draw, json.loads(table.schema.metadata[METADATA_KEY]))
        text = json_text(draw, manifest)
        return table.replace_schema_metadata({METADATA_KEY: text.encode("utf-8", "surrogatepass")}), text
    name = draw.choice(table.column_names)
    values = table[name].to_pylist()
    for at in draw.sample(range(len(values)), draw.choice((1, 2, len(values)))):
        values[at] = draw.choice((*EXTREMES, [], [None], ["a", None], [float("nan"), -1.0], "a;b", "truncated;bogus"))
        if isinstance(values[at], str):
            values[at] = values[at].encode(errors="replace").decode()
    column = _as_column(values, table.schema.field(name).type)
    return table.set_column(table.column_names.index(name), name, column), f"{name}: {values!r}"


def _as_column(values: list[Any], type_: pa.DataType) -> pa.Array:
    """Return values as a column, with null for values that its type cannot hold."""
    kept = []
    for value in values:
        try:
            kept += pa.array([value], type_).to_pylist()
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            kept.append(None)
    return pa.array(kept, type_)


def marks(folder: Path) -> Try:
    """Damage a file of marks, as JSON and as bytes."""
    path = _scored(folder)
    ledger = load_ledger(path)
    ids = ledger.stored["pair_id"].tolist()
    rows = [{"pair_id": one, "occurrence": 0, "decision": "drop", "note": "n"} for one in ids]
    whole = {"format": 1, "marks": rows}

    def attempt(draw: Random) -> tuple[object, Read]:
        as_bytes = draw.random() < 0.3
        text = json_text(draw, damaged_json(draw, whole)).encode("utf-8", "surrogatepass")
        raw = damaged_bytes(draw, json.dumps(whole).encode()) if as_bytes else text
        marks_path(path).write_bytes(raw)

        def read() -> None:
            for kind in ("any", "keep", "drop", "swap", "note"):
                load_marks(path).mask(ledger, kind)
            if draw.random() < 0.1:
                curate(path, "-")

        return raw, read

    return attempt


_WORDS = (
    *("margin", "len_c", "len_r", "dpo_loss", "prompt", "outcome", "row", "flags", "`row`", "mark(any)", "lint(x)"),
    *("flag(truncated)", "abs(margin)", "and", "or", "not", "true", "(", ")", "<", "<=", "==", "=", "!=", "~", "!~"),
    *("+", "-", "*", "/", "1", "0", "1e400", "1e-400", ".5", "5.", '"python"', "'x'", "'", "`", ",", "\u0661", "\0"),
    *("9" * 400, "(" * 200, "not " * 3000, "1+" * 2000, "\ud800", "\u202e", "quadrant", "flip_posterior", "chosen"),
)
_NUMBERS: dict[str, str] = {"logp_c": "policy_chosen_logps", "ref_r": "ref_rejected_logps", "row": "row"}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_JOIN: dict[str, Callable[[Any, Any], Any]] = {"and": np.logical_and, "or": np.logical_or}


def filters(folder: Path) -> Try:
    """Write filter words in any order; valid expressions are also evaluated independently."""
    ledger = load_ledger(_scored(folder))
    view = View(ledger, PreferenceSettings())

    def attempt(draw: Random) -> tuple[object, Read]:
        if draw.random() < 0.5:
            text, expected = _sensible(draw, ledger, 3)
        else:
            words = draw.choices(_WORDS, k=draw.choice((1, 2, 3, 3, 5, 8)))
            text, expected = draw.choice((" ", "")).join(words), None

        def read() -> None:
            found = view.filter(text)
            if expected is not None and not np.array_equal(found, expected):
                raise WrongValueError(f"the expression matches {found.tolist()}, not {expected.tolist()}")

        return text, read

    return attempt


def _sensible(draw: Random, ledger: Ledger, depth: int) -> tuple[str, Any]:
    """Return an expression and the pairs that it matches, computed with NumPy."""
    if depth and draw.random() < 0.6:
        (left, first), (right, second) = (_sensible(draw, ledger, depth - 1) for _ in range(2))
        word = draw.choice([*_JOIN])
        return f"({left}) {word} ({right})", _JOIN[word](first, second)
    alias, sign = draw.choice([*_NUMBERS]), draw.choice([*_COMPARE])
    values = ledger.stored[_NUMBERS[alias]]
    limit = draw.choice((0.0, 3.0, float(np.median(values)), float(values[0]), 1e308, -0.5))
    spelled = repr(limit) if limit >= 0 else f"-{abs(limit)!r}"
    times = draw.choice((1, 2))
    return f"{alias} * {times} {sign} {spelled}", _COMPARE[sign](values * times, limit)


def screen_state(_: Path) -> Try:
    """Damage the persisted state of the screens: it is never refused, whatever it contains."""
    remember(Remembered("dark", "mono", ("row", "margins")).with_opened(Opened("a.parquet")))
    path = remembered_file()
    whole = json.loads(path.read_text(encoding="utf-8"))

    def attempt(draw: Random) -> tuple[object, Read]:
        text = json_text(draw, damaged_json(draw, whole)).encode("utf-8", "surrogatepass")
        raw = damaged_bytes(draw, path.read_bytes() or b"{}") if draw.random() < 0.3 else text
        path.write_bytes(raw)

        def read() -> None:
            found = recall()
            texts = [found.theme or "", found.palette or "", *(found.columns or ())]
            texts += [text for one in found.opened for text in (one.data, one.policy, one.ref)]
            if not all(isinstance(text, str) for text in texts):
                raise WrongValueError(f"recalled {found!r}")

        return raw, read

    return attempt


_NAMED: dict[str, tuple[int, Callable[[Path], Try]]] = {
    "ledger bytes": (2500, ledger_bytes),
    "old ledger bytes": (600, old_ledger_bytes),
    "ledger values": (1200, ledger_values),
    "marks": (1200, marks),
    "filters": (2000, filters),
    "state of the screens": (400, screen_state),
}
BOUNDARIES = [Boundary(name, inputs, prepare) for name, (inputs, prepare) in _NAMED.items()]
