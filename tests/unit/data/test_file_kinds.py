"""Compressed files, unusual JSON and unusual tables are read, or refused by kind."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.data import csv_rows, json_rows, json_text
from prefscope.data.records import BadRow, SourceRow
from prefscope.data.sources import open_source
from prefscope.errors import DataError

ROWS = [{"prompt": "2+2?", "chosen": "4", "rejected": "5"}, {"prompt": "é?", "chosen": "a", "rejected": "b"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
EACH = pytest.mark.parametrize("suffix", PACK)


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def values(path: Path, split: str | None = None) -> list[Any]:
    return [row.value for row in open_source(str(path), split=split).rows() if isinstance(row, SourceRow)]


def refusal(path: Path, split: str | None = None) -> str:
    with pytest.raises(DataError) as told:
        list(open_source(str(path), split=split).rows())
    return told.value.what


@EACH
@pytest.mark.parametrize("frames", [1, 2])
def test_every_compression_is_read_from_one_or_several_frames(tmp_path: Path, suffix: str, frames: int) -> None:
    assert values(written(tmp_path / f"a.jsonl{suffix}", PACK[suffix](LINES) * frames)) == ROWS * frames


@EACH
def test_compressed_parquet_is_read(tmp_path: Path, suffix: str) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    assert values(written(tmp_path / f"a.parquet{suffix}", PACK[suffix](bytes(sink.getvalue())))) == ROWS


@EACH
@pytest.mark.parametrize("left", [0.5, 0.99])
def test_truncated_compressed_data_is_reported(tmp_path: Path, suffix: str, left: float) -> None:
    packed = PACK[suffix](LINES)
    name = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}[suffix]
    path = written(tmp_path / f"a.jsonl{suffix}", packed[: int(len(packed) * left)])
    assert refusal(path) == f"the {name} data is damaged or truncated"


@EACH
def test_compression_without_its_suffix_is_reported(tmp_path: Path, suffix: str) -> None:
    assert refusal(written(tmp_path / "a.jsonl", PACK[suffix](LINES))).endswith("though its name does not say so")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html></html>", "is an HTML page"),
        (b"\n<HTML><body>", "is an HTML page"),
        (b'<?xml version="1.0"?><a/>', "is XML"),
        (b"PK\x03\x04rest", "is a zip archive or an Excel workbook"),
        (b"SQLite format 3\x00", "is an SQLite database"),
        (b"\x80\x04\x95", "is a Python pickle"),
        ('{"a": 1}'.encode("utf-16-le"), "is UTF-16 text without a byte order mark"),
        ('{"a": 1}'.encode("utf-32"), "is UTF-32 text"),
        ("a,b".encode("utf-16"), "is UTF-16 text"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a"])
def test_files_that_are_not_data_sets_are_named_by_kind(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    assert refusal(written(tmp_path / name, content)).startswith(("is not Parquet", what)) is True
    assert name == "a.parquet" or refusal(tmp_path / name).startswith(what)


# JSON

SPLITS = {"train": ROWS, "test": ROWS[:1], "info": "x", "empty": []}
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
TURNS: dict[str, list[Any]] = {
    "prompt": [[{"role": "user", "content": "q"}]] * 2,
    "chosen": ["a", "b"],
    "rejected": ["c", "d"],
}


def test_an_object_of_splits_needs_a_split(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", json.dumps(SPLITS, indent=1))
    assert refusal(path) == "contains several lists of rows: `train`, `test`"
    assert (values(path, "train"), values(path, "test")) == (ROWS, ROWS[:1])
    assert refusal(path, "dev") == "has no split `dev`; its lists of rows: `train`, `test`"


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        (COLUMNS, ROWS),
        ({name: {str(i): row[name] for i, row in enumerate(ROWS)} for name in ROWS[0]}, ROWS),
        ({str(i): row for i, row in enumerate(ROWS)}, ROWS),
        ({"columns": list(ROWS[0]), "index": [0, 1], "data": [list(row.values()) for row in ROWS]}, ROWS),
        ({"schema": {"fields": []}, "data": ROWS}, ROWS),
        (TURNS, [{name: TURNS[name][i] for name in TURNS} for i in range(2)]),
        ({"train": COLUMNS}, ROWS),
    ],
    ids=["lists", "columns", "index", "split", "table", "turns", "one split"],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_table_in_one_object_is_read(
    tmp_path: Path, value: dict[str, Any], rows: list[Any], name: str, indent: int | None
) -> None:
    assert values(written(tmp_path / name, json.dumps(value, indent=indent))) == rows


def test_columns_of_unequal_length_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", json.dumps(COLUMNS | {"chosen": ["4"]}))
    assert refusal(path) == "is a column-wise table whose columns differ in length (1, 2 values)"


def test_tables_of_splits_need_a_split(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", json.dumps({"train": COLUMNS, "test": COLUMNS}))
    assert refusal(path) == "contains several tables: `train`, `test`"
    assert values(path, "test") == ROWS


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b", "tools": [{"type": "function"}]},
        {"tools": [{"type": "function"}], "prompt": "q", "chosen": "a", "rejected": "b"},
        {"chosen": [{"role": "user", "content": "q"}], "rejected": [{"role": "user", "content": "q"}]},
        {"prompt": {"role": "user", "content": "q"}, "chosen": {"role": "a"}, "rejected": {"role": "a"}},
    ],
)
def test_one_row_with_lists_is_one_row(tmp_path: Path, row: dict[str, Any]) -> None:
    assert values(written(tmp_path / "a.json", json.dumps(row, indent=1))) == [row]


def test_objects_spanning_several_lines_are_read_from_json_lines_too(tmp_path: Path) -> None:
    content = "".join(json.dumps(row, indent=1) + "\n" for row in ROWS)
    assert values(written(tmp_path / "a.jsonl", content)) == ROWS
    assert values(written(tmp_path / "b.jsonl", content.replace("{\n", "{", 1))) == ROWS


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_a_duplicate_key_is_noted(tmp_path: Path, name: str, indent: int | None) -> None:
    text = json.dumps({"chosen": "a", "other": "b", "n": 1}, indent=indent).replace("other", "chosen")
    (row,) = open_source(str(written(tmp_path / name, text))).rows()
    told = ("`chosen` occurs twice in one object; the last value is used",)
    assert row == SourceRow(0, 1, {"chosen": "b", "n": 1}, remarks=told)


def test_a_number_that_is_not_valid_json_is_noted(tmp_path: Path) -> None:
    (row,) = open_source(str(written(tmp_path / "a.jsonl", '{"n": -Infinity}'))).rows()
    told = ("-Infinity is not valid JSON and is read as a number",)
    assert row == SourceRow(0, 1, {"n": float("-inf")}, remarks=told)


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"a": [1,]}', "trailing comma before the closing bracket"),
        ('{"a": 1,}', "trailing comma before the closing bracket"),
        ("{'a': 1}", "it is a Python dictionary, in single quotes"),
    ],
)
def test_the_cause_of_invalid_json_is_reported(tmp_path: Path, line: str, cause: str) -> None:
    bad = next(open_source(str(written(tmp_path / "a.jsonl", line + '\n{"a": 1}'))).rows())
    assert isinstance(bad, BadRow)
    assert f"({cause} at column " in bad.reason  # Python 3.13 counts to the comma, others to the bracket


def test_a_trailing_comma_is_reported(tmp_path: Path) -> None:
    assert refusal(written(tmp_path / "a.json", '[{"a": 1},]')).endswith("trailing comma before ']'")


# CSV


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a"])
@pytest.mark.parametrize("sep", [False, True])
def test_every_delimiter_is_detected(tmp_path: Path, delimiter: str, name: str, sep: bool) -> None:
    lines = [["prompt", "chosen", "rejected"], *(list(row.values()) for row in ROWS)]
    text = "".join(delimiter.join(f'"{cell}"' for cell in cells) + "\r\n" for cells in lines)
    assert values(written(tmp_path / name, f"sep={delimiter}\n{text}" if sep else text)) == ROWS


def test_an_unusual_delimiter_is_noted(tmp_path: Path) -> None:
    source = open_source(str(written(tmp_path / "a.csv", "a;b\n1;2\n")))
    assert source.remarks == ("read with semicolons as delimiters",)


def test_a_space_after_every_delimiter_is_stripped(tmp_path: Path) -> None:
    source = open_source(str(written(tmp_path / "a.csv", 'prompt, chosen\nHi, "a, b"\n')))
    assert [row.value for row in source.rows() if isinstance(row, SourceRow)] == [{"prompt": "Hi", "chosen": "a, b"}]
    assert source.remarks == ("the space after each delimiter is ignored",)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_line_that_is_too_long_is_a_bad_row_among_good_ones(
    *, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_rows, "LONGEST_ROW", 40)
    lines = b'{"n": 1}\n{"n": "' + 200 * b"x" + b'"}\n{"n": 2}'
    path = tmp_path / ("a.jsonl.gz" if zipped else "a.jsonl")
    path.write_bytes(gzip.compress(lines) if zipped else lines)
    first, long, last = open_source(str(path)).rows()
    assert (first, last) == (SourceRow(0, 1, {"n": 1}), SourceRow(2, 3, {"n": 2}))
    assert long == BadRow(1, 2, "the line is longer than 40 bytes")


@pytest.mark.parametrize(
    ("name", "text", "module"),
    [("a.json", '[{"n": "' + 3_000_000 * "x" + '"}]', json_text), ("a.csv", "n,m\n1," + 900 * "x" + "\n", csv_rows)],
)
def test_a_value_or_a_line_that_is_too_long_is_refused_with_its_line(
    name: str, text: str, module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LONGEST_ROW", 100)
    with pytest.raises(DataError, match="is longer than 100 characters"):
        list(open_source(str(written(tmp_path / name, text))).rows())
