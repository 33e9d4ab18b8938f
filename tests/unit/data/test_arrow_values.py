"""Whatever type a Parquet column has, its text is decoded or it is not scored."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import BadRow, SourceRow
from prefscope.data.sources import open_source

TEXT = "It is 5 €."
ENCODED = TEXT.encode()
TEXTS = {
    "string": pa.array([TEXT]),
    "large_string": pa.array([TEXT], pa.large_string()),
    "string_view": pa.array([TEXT], pa.string_view()),
    "binary": pa.array([ENCODED]),
    "large_binary": pa.array([ENCODED], pa.large_binary()),
    "binary_view": pa.array([ENCODED], pa.binary_view()),
    "fixed_size_binary": pa.array([ENCODED], pa.binary(len(ENCODED))),
    "dictionary of strings": pa.array([TEXT]).dictionary_encode(),
    "dictionary of binary": pa.array([ENCODED]).dictionary_encode(),
    "list of binary": pa.array([[ENCODED]]),
}
NO_TEXTS = {
    "null": pa.array([None], pa.string()),
    "boolean": pa.array([True]),
    "integer": pa.array([5], pa.uint8()),
    "half float": pa.array(np.array([5.0], np.float16)),
    "float": pa.array([float("nan")]),
    "decimal": pa.array([Decimal("5.0")]),
    "date": pa.array([dt.date(2024, 1, 2)]),
    "time": pa.array([dt.time(1, 2)]),
    "timestamp": pa.array([dt.datetime(2024, 1, 2)]),  # noqa: DTZ001 (a column without a zone)
    "duration": pa.array([dt.timedelta(1)]),
    "map": pa.array([[("a", "b")]], pa.map_(pa.string(), pa.string())),
    "bytes that are no text": pa.array([b"\xff\xfe\x00"]),
    "list of dates": pa.array([[dt.date(2024, 1, 2)]]),
    "struct": pa.array([{"text": TEXT}]),
    "struct with a date": pa.array([{"role": "assistant", "content": dt.date(2024, 1, 2)}]),
    "struct with bytes that are no text": pa.array([{"role": "assistant", "content": b"\xff"}]),
}


def row_of(folder: Path, column: pa.Array, name: str = "chosen") -> SourceRow:
    columns = {"prompt": ["Hi"], "chosen": ["a"], "rejected": ["b"], name: column}
    try:
        pq.write_table(pa.table(columns), folder / "pairs.parquet")
    except pa.ArrowNotImplementedError as error:  # pyarrow 18 writes no views
        pytest.skip(str(error))
    (row,) = open_source(str(folder / "pairs.parquet")).rows()
    assert isinstance(row, SourceRow)
    return row


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_text_of_every_type_is_decoded(kind: str, column: str, tmp_path: Path) -> None:
    pair = normalise(row_of(tmp_path, TEXTS[kind], column))[0]
    assert getattr(pair, column) == TEXT


@pytest.mark.parametrize("kind", [kind for kind in TEXTS if not kind.startswith("list")])
def test_text_in_messages_is_decoded(kind: str, tmp_path: Path) -> None:
    turn = pa.StructArray.from_arrays([pa.array(["assistant"]), TEXTS[kind]], ["role", "content"])
    pair = normalise(row_of(tmp_path, pa.ListArray.from_arrays([0, 1], turn)))[0]
    assert pair.content["chosen"] == [{"role": "assistant", "content": TEXT}]


@pytest.mark.parametrize("kind", NO_TEXTS)
@pytest.mark.parametrize("column", ["prompt", "chosen", "rejected"])
def test_a_value_that_is_not_text_is_refused_with_its_column(kind: str, column: str, tmp_path: Path) -> None:
    with pytest.raises(NotAPairError, match=f"`{column}`"):
        normalise(row_of(tmp_path, NO_TEXTS[kind], column))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("decimal", "5.0"),
        ("date", "2024-01-02"),
        ("time", "01:02:00"),
        ("timestamp", "2024-01-02T00:00:00"),
        ("half float", 5.0),
        ("map", {"a": "b"}),
        ("bytes that are no text", "//4A"),
    ],
)
def test_an_extra_column_is_kept_as_json(kind: str, value: Any, tmp_path: Path) -> None:
    pair = normalise(row_of(tmp_path, NO_TEXTS[kind], "note"))[0]
    assert json.loads(json.dumps(pair.columns)) == {"note": value}


def test_a_map_with_a_duplicate_key_keeps_both_values(tmp_path: Path) -> None:
    column = pa.array([[("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))
    assert row_of(tmp_path, column, "note").value["note"] == [["a", 1], ["a", 2]]


def test_a_string_that_is_not_utf8_makes_only_its_row_bad(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"caf\xe9"]).view(pa.string())
    pq.write_table(pa.table({"prompt": ["Hi", "Hi"], "chosen": raw}), tmp_path / "pairs.parquet")
    good, bad = open_source(str(tmp_path / "pairs.parquet")).rows()
    assert good == SourceRow(0, 1, {"prompt": "Hi", "chosen": "fine"})
    assert bad == BadRow(1, 2, "`chosen` contains text that is not UTF-8 (byte 0xE9)")


def test_nulls_in_tool_arguments_are_kept(tmp_path: Path) -> None:
    arguments = [{"limit": None, "city": "Oslo"}, {"limit": 2, "city": None}]
    calls = [[{"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": a}]}] for a in arguments]
    table = pa.Table.from_pylist([{"prompt": "Hi", "chosen": call, "rejected": "No."} for call in calls])
    pq.write_table(table, tmp_path / "pairs.parquet")
    rows = [row for row in open_source(str(tmp_path / "pairs.parquet")).rows() if isinstance(row, SourceRow)]
    assert [row.value["chosen"] for row in rows] == calls


def test_a_row_above_the_size_limit_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefscope.data.arrow_values.LONGEST_ROW", 100)
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"prompt": ["p", "p" * 200, "p"], "chosen": ["c"] * 3, "rejected": ["r"] * 3}), path)
    first, long, last = open_source(str(path)).rows()
    assert long == BadRow(1, 2, "the row is longer than 100 bytes")
    assert [one.value["prompt"] for one in (first, last) if isinstance(one, SourceRow)] == ["p", "p"]
