"""Hostile data sets: damaged files of every format, rows of odd shapes, and impossible log-probs and token counts."""

from __future__ import annotations

import bz2
import csv
import functools
import gzip
import io
import json
import lzma
import math
import re
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from prefscope.cli.lint import lint
from prefscope.cli.score import score
from prefscope.data.records import SourceRow
from prefscope.data.sources import open_source
from prefscope.folders import sample_data
from prefscope.ledger.columns import LOGPS, NUM_TOKENS
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.reader import read_pairs
from prefscope.pipeline.ready_made import import_logps
from prefscope.pipeline.spool import Spool
from prefscope.scoring.checkpoints import Checkpoint
from prefscope.settings import DataSettings, ModelSettings, ScoreSettings
from tests.campaigns.mutations import EXTREMES, damaged_bytes, damaged_json, flipped, json_text
from tests.campaigns.trials import Boundary, Read, Try, WrongValueError
from tests.unit.data.examples import EXAMPLES

GIVEN: dict[str, Any] = {
    "prompt": "p",
    "chosen": "c",
    "rejected": "r",
    "policy_chosen_logps": -1.0,
    "policy_rejected_logps": -2.0,
    "ref_chosen_logps": -1.5,
    "ref_rejected_logps": -2.5,
    "chosen_num_tokens": 3,
    "rejected_num_tokens": 4,
}
NUMBERS = (*LOGPS, *NUM_TOKENS)
SPELLINGS = (
    *("-1", "-1.25", " -1.5 ", "-.5", "-5.", "-1e-3", "-1E2", "+0", "-inf", "nan", "-Infinity", "1e400", "-1e400"),
    *(
        "-1_000",
        "-\u0661",
        "\uff0d1",
        "1,5",
        "-1,5",
        "0x1",
        "--1",
        "-1 2",
        "-",
        "none",
        "null",
        "-1e",
        "\u22121",
        "-1\0",
    ),
    *(-3, -3.75, 0, 7, 12.0, 2.5, 1e300, -1e300, 10**400, -(10**400), 2**31 - 1, 2**31, 2**63, -1, -2, 1e-4, 0.5),
)
_SPELLED = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def _rows() -> list[dict[str, Any]]:
    with (sample_data() / "pairs.jsonl").open(encoding="utf-8") as stream:
        return [json.loads(line) for _, line in zip(range(6), stream, strict=False)]


def _files() -> dict[str, bytes]:
    """Return the same rows as files of every format, by their names."""
    rows = [{"prompt": one["prompt"][-1]["content"], "chosen": "c " * 9, "rejected": "r"} for one in _rows()]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    cells = io.StringIO()
    writer = csv.DictWriter(cells, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    table = pa.Table.from_pylist([*rows, *({"tools": "[]", **row} for row in rows)])
    parquet, arrow = io.BytesIO(), io.BytesIO()
    pq.write_table(table, parquet)
    with pa.ipc.new_file(arrow, table.schema) as stream:
        stream.write_table(table)
    text = cells.getvalue().encode()
    return {
        "rows.jsonl": lines,
        "rows.json": json.dumps(rows, indent=1).encode(),
        "table.json": json.dumps({"train": rows, "test": rows[:1]}).encode(),
        "rows.csv": text,
        "rows.tsv": text.replace(b",", b"\t"),
        "rows.parquet": parquet.getvalue(),
        "rows.arrow": arrow.getvalue(),
        "rows.jsonl.gz": gzip.compress(lines, mtime=0),
        "rows.csv.bz2": bz2.compress(text),
        "rows.jsonl.xz": lzma.compress(lines),
        "rows.jsonl.zst": pa.compress(lines, codec="zstd", asbytes=True),
    }


def _read_rows(path: Path) -> list[Any]:
    with closing(open_source(str(path))) as source:
        source.content_hash()
        return [row.value if isinstance(row, SourceRow) else row.reason for row in source.rows()]


def files(folder: Path) -> Try:
    """Damage the bytes of data files; if the format has checksums, no flipped bit may change a row."""
    whole = _files()
    expected: dict[str, list[Any]] = {}
    for name, content in whole.items():
        (folder / name).write_bytes(content)
        if name.endswith((".gz", ".bz2", ".xz")):
            expected[name] = _read_rows(folder / name)

    def attempt(draw: Random) -> tuple[object, Read]:
        name = draw.choice([*whole])
        one_flip = name in expected and draw.random() < 0.5
        raw = flipped(draw, whole[name]) if one_flip else damaged_bytes(draw, whole[name])
        path = folder / (draw.choice([*whole]) if draw.random() < 0.05 else name)
        path.write_bytes(raw)

        def read() -> None:
            if one_flip and path.name == name:
                if _read_rows(path) != expected[name]:
                    raise WrongValueError(f"{name}: a flipped bit changed a row")
            else:
                lint([str(path)], fail_on=["none"])

        return (path.name, raw), read

    return attempt


def rows(folder: Path) -> Try:
    """Put odd values and shapes into every field of rows in every layout, and lint them."""
    path = folder / "rows.jsonl"

    def attempt(draw: Random) -> tuple[object, Read]:
        text = _damaged_rows(draw)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return text, lambda: lint([str(path)], fail_on=["none"])

    return attempt


def _damaged_rows(draw: Random) -> str:
    examples = draw.choices([*EXAMPLES.values()], k=draw.choice((1, 2, 3)))
    return "".join(json_text(draw, damaged_json(draw, one.row)) + "\n" for one in examples)


def tokenized(folder: Path) -> Try:
    """Put odd values and shapes into rows, and render and tokenize them with the bundled tokenizer."""
    path = folder / "rows.jsonl"
    policy = Checkpoint("tiny-policy", sample_data() / "tiny-policy")
    settings = ScoreSettings(DataSettings(str(path), skip_bad_rows=True), ModelSettings(str(policy.path), "none"))

    def attempt(draw: Random) -> tuple[object, Read]:
        more = [json_text(draw, damaged_json(draw, one)) + "\n" for one in draw.sample(_cached_rows(), 2)]
        text = _damaged_rows(draw) + "".join(more)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")

        def read() -> None:
            with closing(Spool(folder)) as spool:
                read_pairs(settings, policy, None, spool, lambda _: None)

        return text, read

    return attempt


@functools.cache
def _cached_rows() -> list[dict[str, Any]]:
    return _rows()


def ready_made(folder: Path) -> Try:
    """Put odd numbers into log-probs and token counts; accepted values must be exactly as written."""

    def attempt(draw: Random) -> tuple[object, Read]:
        changed = [_changed_row(draw) for _ in range(3)]
        write = draw.choice((_as_lines, _as_lines, _as_cells, _as_parquet))
        path, given = write(folder, draw, [GIVEN, *changed])
        return (path.name, path.read_bytes()), lambda: _check_imported(path, given)

    return attempt


def _changed_row(draw: Random) -> dict[str, Any]:
    row = dict(GIVEN)
    for name in draw.sample(NUMBERS, draw.choice((1, 1, 2))):
        row[name] = draw.choice(EXTREMES if draw.random() < 0.3 else SPELLINGS)
    if draw.random() < 0.2:
        row[draw.choice(("pair_id", "flags", "row", "line", "margins", "extra"))] = draw.choice(EXTREMES)
    return row


def _as_lines(folder: Path, draw: Random, rows: list[dict[str, Any]]) -> tuple[Path, list[dict[str, Any]]]:
    path = folder / "given.jsonl"
    lines = [json_text(draw, row) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    return path, [row for row, line in zip(rows, lines, strict=True) if line.strip()]


def _as_cells(folder: Path, draw: Random, rows: list[dict[str, Any]]) -> tuple[Path, list[dict[str, Any]]]:
    path = folder / "given.csv"
    texts = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows if _is_plain(row)]
    with path.open("w", encoding="utf-8", errors="surrogatepass", newline="") as stream:
        writer = csv.DictWriter(stream, draw.sample(columns := [*GIVEN, "extra"], len(columns)), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(texts)
    return path, texts


def _is_plain(row: dict[str, Any]) -> bool:
    return not any(isinstance(value, list | dict) or "\0" in str(value) for value in row.values())


def _as_parquet(folder: Path, draw: Random, rows: list[dict[str, Any]]) -> tuple[Path, list[dict[str, Any]]]:
    """Write columns of one type each; values that a type cannot hold stay unchanged."""
    type_: pa.DataType = draw.choice((pa.float64(), pa.float64(), pa.int64(), pa.string(), pa.bool_()))
    kept = [{name: _held(row[name], type_, GIVEN[name]) for name in GIVEN} for row in rows]
    columns = {name: pa.array([row[name] for row in kept], type_ if name in NUMBERS else pa.string()) for name in GIVEN}
    path = folder / "given.parquet"
    pq.write_table(pa.table(columns), path)
    return path, [row | {name: None if row[name] is None else row[name] for name in NUMBERS} for row in kept]


def _held(value: Any, type_: pa.DataType, other: Any) -> Any:
    for one in (value, other):
        try:
            return pa.array([one], type_)[0].as_py() if not isinstance(other, str) else str(other)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            continue
    return None


def _check_imported(path: Path, given: list[dict[str, Any]]) -> None:
    """Import the log-probs, skipping bad rows, and compare each with an independent reading."""
    out = path.with_name("out.parquet")
    import_logps(DataSettings(str(path), skip_bad_rows=True), lambda _: out, lambda _: None)
    ledger = load_ledger(out)
    for at, row in enumerate(ledger.stored["row"].tolist()):
        for name in NUMBERS:
            found = float(ledger.stored[name][at])
            expected = _spelled(given[row].get(name), count=name in NUM_TOKENS)
            if expected is None or not (found == expected or (math.isnan(found) and math.isnan(expected))):
                raise WrongValueError(f"row {row}, {name}: {given[row].get(name)!r} was read as {found!r}")


def _spelled(value: Any, *, count: bool) -> float | None:
    """Return the number that a value represents, None if it must be refused."""
    if value is None or value == "":
        return -1.0 if count else math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str):
        word = value.strip().casefold().removeprefix("+").removeprefix("-")
        if word in {"nan", "inf", "infinity"}:
            value = float(value)
        else:
            value = float(Decimal(value.strip())) if _SPELLED.fullmatch(value.strip()) else None
    if value is None or (isinstance(value, int) and abs(value) > 10**308):
        return None
    number = float(value)
    if count:
        return -1.0 if math.isnan(number) else number if number.is_integer() and -1 <= number < 2**31 else None
    return None if number > 1e-3 else number


def whole_command(folder: Path) -> Try:
    """Pass damaged rows of log-probs to `score` itself, with the summary, a table and the ledger."""
    path, out = folder / "given.jsonl", folder / "out.parquet"

    def attempt(draw: Random) -> tuple[object, Read]:
        text = "".join(json_text(draw, damaged_json(draw, row)) + "\n" for row in (_changed_row(draw), GIVEN))
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        outputs = [str(out), str(folder / draw.choice(("t.csv", "t.jsonl", "t.tsv", "t.parquet")))]
        options: dict[str, Any] = {"skip_bad_rows": draw.random() < 0.8, "texts": True, "weights": True}

        def read() -> None:
            # The first row decides whether any model is run, which is for another boundary.
            if all(name in text.split("\n", 1)[0] for name in LOGPS[:2]) and '"policy_chosen_logps"' in text:
                score([str(path)], policy=None, output=outputs, as_json=True, **options)

        return text, read

    return attempt


_NAMED: dict[str, tuple[int, Callable[[Path], Try]]] = {
    "files": (3500, files),
    "rows": (2500, rows),
    "tokenized rows": (900, tokenized),
    "ready-made log-probs": (2500, ready_made),
    "score of log-probs": (400, whole_command),
}
BOUNDARIES = [Boundary(name, inputs, prepare) for name, (inputs, prepare) in _NAMED.items()]
