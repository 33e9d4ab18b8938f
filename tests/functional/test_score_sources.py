"""A data set gives the same scores in every format."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.ledger.columns import LOGPS, NUM_TOKENS
from prefscope.ledger.table import Ledger, load_ledger

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
Rows = list[dict[str, Any]]


def json_lines(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def cells(rows: Rows, delimiter: str = ",") -> bytes:
    """Return a table whose cells hold the conversations as JSON."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerow(rows[0])
    writer.writerows([value if isinstance(value, str) else json.dumps(value) for value in row.values()] for row in rows)
    return text.getvalue().encode()


def parquet(rows: Rows) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


FORMATS: dict[str, Callable[[Rows], bytes]] = {
    "pairs.jsonl": json_lines,
    "pairs.json": lambda rows: json.dumps(rows, indent=2).encode(),
    "wrapped.json": lambda rows: json.dumps({"version": 1, "data": rows}).encode(),
    "pairs.csv": cells,
    "pairs.tsv": lambda rows: cells(rows, "\t"),
    "pairs.parquet": parquet,
    "pairs.jsonl.gz": lambda rows: gzip.compress(json_lines(rows)),
    "pairs.csv.gz": lambda rows: gzip.compress(cells(rows)),
}


def columns(ledger: Ledger) -> dict[str, list[Any]]:
    return {name: ledger.stored[name].tolist() for name in ("row", "pair_id", *LOGPS, *NUM_TOKENS, "flags")}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_numbers_as_json_lines(
    program: Program, scored: Ledger, rows: Rows, models: list[str], name: str
) -> None:
    Path(name).write_bytes(FORMATS[name](rows))
    code, _, told = program("score", name, *models, "-o", "out.parquet")
    assert code == 0, told
    assert columns(load_ledger("out.parquet")) == columns(scored)


def test_standard_input_gives_the_same_numbers_as_the_file(
    program: Program, scored: Ledger, rows: Rows, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json_lines(rows))))
    code, _, told = program("score", "-", *models, "-o", "out.parquet")
    assert code == 0, told
    ledger = load_ledger("out.parquet")
    assert columns(ledger) == columns(scored)
    assert ledger.manifest["data"]["source"] == "stdin"


def test_columns_of_the_data_set_are_kept(scored: Ledger, rows: Rows) -> None:
    assert scored.extra_columns == {"category": "text", "split": "text", "note": "text"}
    (group,) = scored.read(["category", "note"])
    assert group == {name: [row[name] for row in rows] for name in ("category", "note")}


def test_a_column_with_a_ledger_name_is_renamed_even_if_its_new_name_is_taken(
    program: Program, rows: Rows, models: list[str], write_jsonl: Callable[..., Path]
) -> None:
    data = write_jsonl("clash.jsonl", [rows[0] | {"margins": "a", "data_margins": "b"}])
    assert program("score", data, *models, "-o", "out.parquet")[0] == 0
    assert next(load_ledger("out.parquet").read(["data_margins", "data_data_margins"])) == {
        "data_margins": ["b"],
        "data_data_margins": ["a"],
    }


def test_the_source_row_is_kept_whole(scored: Ledger, rows: Rows) -> None:
    assert [json.loads(scored.pair(i)["source_json"]) for i in range(len(rows))] == rows


def test_a_mapping_names_the_columns_of_an_unknown_layout(
    program: Program, scored: Ledger, rows: Rows, models: list[str], write_jsonl: Callable[..., Path]
) -> None:
    renamed = [{"q": row["prompt"], "good": row["chosen"], "bad": row["rejected"]} for row in rows]
    data = write_jsonl("odd.jsonl", renamed)
    mapping = "prompt=q,chosen=good,rejected=bad"
    assert program("score", data, *models, "--map", mapping, "-o", "out.parquet")[0] == 0
    assert columns(load_ledger("out.parquet")) == columns(scored)


def test_a_row_keeps_its_line_number(
    program: Program, rows: Rows, models: list[str], write_jsonl: Callable[..., Path]
) -> None:
    data = write_jsonl("pairs.jsonl", rows[:2])
    data.write_bytes(b"\n\n" + data.read_bytes())
    assert program("score", data, *models, "-o", "out.parquet")[0] == 0
    ledger = load_ledger("out.parquet")
    assert ledger.stored["line"].tolist() == [3, 4]
    assert ledger.stored["row"].tolist() == [0, 1]
