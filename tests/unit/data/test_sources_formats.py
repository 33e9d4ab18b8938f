"""Rows of every format are read back unchanged, with their places."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.data.records import BadRow, SourceRow
from prefscope.data.sources import open_source
from prefscope.errors import DataError

FIRST = {"prompt": "Is água wet?", "chosen": "Yes.", "rejected": "No\nnever"}
SECOND = {"prompt": "2+2?", "chosen": "4", "rejected": ""}


def rows_of(path: Path) -> list[SourceRow | BadRow]:
    return list(open_source(str(path)).rows())


def values_of(path: Path) -> list[Any]:
    return [row.value for row in rows_of(path) if isinstance(row, SourceRow)]


def lines_of(path: Path) -> list[tuple[int, int]]:
    return [(row.row, row.line) for row in rows_of(path)]


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_lines(*values: object) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


CSV = 'prompt,chosen,rejected\nIs água wet?,Yes.,"No\nnever"\n2+2?,4,\n'
TEXTS = {
    "pairs.jsonl": json_lines(FIRST, SECOND),
    "pairs.ndjson": json_lines(FIRST, SECOND),
    "pairs.json": json.dumps([FIRST, SECOND]),
    "wrapped.json": json.dumps({"version": 1, "data": [FIRST, SECOND], "licence": "MIT"}),
    "lines.json": json_lines(FIRST, SECOND),
    "pairs.csv": CSV,
    "pairs.tsv": CSV.replace(",", "\t"),
    "jsonlines.unknown": json_lines(FIRST, SECOND),
    "array.unknown": json.dumps([FIRST, SECOND], indent=1),
    "csv.unknown": CSV,
    "tsv": CSV.replace(",", "\t"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    assert values_of(written(tmp_path / name, TEXTS[name])) == [FIRST, SECOND]


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_format_may_be_gzipped(tmp_path: Path, name: str) -> None:
    assert values_of(written(tmp_path / f"{name}.gz", gzip.compress(TEXTS[name].encode()))) == [FIRST, SECOND]


@pytest.mark.parametrize("name", TEXTS)
def test_byte_order_marks_and_windows_line_ends_are_stripped(tmp_path: Path, name: str) -> None:
    plain = {**FIRST, "rejected": "No"}
    text = TEXTS[name].replace("\\nnever", "").replace('"No\nnever"', "No")
    path = written(tmp_path / name, b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert values_of(path) == [plain, SECOND]


@pytest.mark.parametrize("name", TEXTS)
def test_the_last_line_may_have_no_line_end(tmp_path: Path, name: str) -> None:
    assert values_of(written(tmp_path / name, TEXTS[name].rstrip("\n"))) == [FIRST, SECOND]


@pytest.mark.parametrize("name", ["pairs.jsonl", "pairs.json", "pairs.csv"])
def test_a_source_can_be_read_several_times(tmp_path: Path, name: str) -> None:
    source = open_source(str(written(tmp_path / name, TEXTS[name])))
    assert list(source.rows()) == list(source.rows())


def test_a_source_can_be_read_twice_at_the_same_time(tmp_path: Path) -> None:
    source = open_source(str(written(tmp_path / "pairs.jsonl", TEXTS["pairs.jsonl"])))
    assert [one == other for one, other in zip(source.rows(), source.rows(), strict=True)] == [True, True]


def test_parquet_rows_are_numbered_from_one_and_keep_their_nested_values(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}]
    path = parquet(tmp_path / "pairs.parquet", [{"chosen": turns, "score": 0.5}, {"chosen": turns, "score": None}])
    assert rows_of(path) == [
        SourceRow(0, 1, {"chosen": turns, "score": 0.5}),
        SourceRow(1, 2, {"chosen": turns, "score": None}),
    ]


def test_nulls_that_arrow_adds_to_turns_of_one_list_are_kept(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "3", "name": "add"}]
    filled = [{"role": "user", "content": "Hi", "name": None}, turns[1]]
    assert values_of(parquet(tmp_path / "pairs.parquet", [{"chosen": turns}])) == [{"chosen": filled}]


def test_gzipped_parquet_is_read(tmp_path: Path) -> None:
    stored = parquet(tmp_path / "plain.parquet", [FIRST, SECOND]).read_bytes()
    assert values_of(written(tmp_path / "pairs.parquet.gz", gzip.compress(stored))) == [FIRST, SECOND]


def test_parquet_rows_continue_across_batches(tmp_path: Path) -> None:
    path = parquet(tmp_path / "many.parquet", [{"number": number} for number in range(1300)])
    assert [(row.row, row.line) for row in rows_of(path)][-1] == (1299, 1300)


def test_json_lines_keep_the_line_of_each_row_and_skip_blank_ones(tmp_path: Path) -> None:
    assert lines_of(written(tmp_path / "a.jsonl", '\n{"a": 1}\n\n  \n{"a": 2}\n')) == [(0, 2), (1, 5)]


def test_bad_json_lines_are_reported_and_the_next_line_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", b'{"a": 1}\n{"a": \n[1]\n{"a": "\xff"}\n{"a": 2}\n')
    good, broken, array, encoding, last = rows_of(path)
    assert (good, last) == (SourceRow(0, 1, {"a": 1}), SourceRow(4, 5, {"a": 2}))
    assert broken == BadRow(1, 2, "the line is not JSON (Expecting value at column 7)")
    assert array == BadRow(2, 3, "the row is a list, not an object")
    assert encoding == BadRow(3, 4, "the line is not UTF-8 (byte 0xFF at column 8)")


@pytest.mark.parametrize(
    "text", ['{"a": ' + "[" * 200_000, '{"a": ' + "9" * 5_000 + "}"], ids=["too deep", "too long a number"]
)
def test_json_that_python_cannot_hold_is_a_bad_row(tmp_path: Path, text: str) -> None:
    bad, good = rows_of(written(tmp_path / "a.jsonl", text + '\n{"a": 1}\n'))
    assert isinstance(bad, BadRow)
    assert good == SourceRow(1, 2, {"a": 1})


def test_elements_of_a_json_array_keep_their_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.json", '\n[\n  {"a": 1},\n\n  {\n    "a": 2\n  }, {"a": 3}\n]\n')
    assert lines_of(path) == [(0, 3), (1, 5), (2, 7)]


def test_rows_within_a_json_object_keep_their_lines(tmp_path: Path) -> None:
    assert lines_of(written(tmp_path / "a.json", '{"n": 2,\n"data": [\n{"a": 1},\n{"a": 2}]}')) == [(0, 3), (1, 4)]


def test_a_json_array_longer_than_the_reading_buffer_keeps_every_element(tmp_path: Path) -> None:
    values = [{"number": number, "text": "\n é" * 400} for number in range(2_000)]
    assert values_of(written(tmp_path / "a.json", json.dumps(values, ensure_ascii=False, indent=0))) == values


def test_a_json_element_longer_than_the_reading_buffer_is_read_whole(tmp_path: Path) -> None:
    values = [{"text": "x" * 3_000_000}, {"text": "y"}]
    assert values_of(written(tmp_path / "a.json", json.dumps(values))) == values


def test_an_element_that_is_not_an_object_is_a_bad_row(tmp_path: Path) -> None:
    assert rows_of(written(tmp_path / "a.json", '[1,\n{"a": 1}]'))[0] == BadRow(
        0, 1, "the row is a number, not an object"
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[\n{"a": 1},\n{"a": oops}\n]', "a.json:3"),
        ('[\n{"a": 1}\n{"a": 2}\n]', "a.json:3"),
        ('[\n{"a": 1},\n', "a.json:3"),
        ('[\n{"a": 1}\n]\nmore', "a.json:4"),
    ],
    ids=["bad literal", "missing comma", "cut off", "more after its end"],
)
def test_broken_json_in_an_array_is_an_error_with_its_line(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(DataError) as told:
        rows_of(written(tmp_path / "a.json", text))
    assert told.value.where.endswith(where)


def test_bytes_that_are_not_utf8_in_an_array_are_an_error_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UTF-8") as told:
        rows_of(written(tmp_path / "a.json", b'[\n{"a": 1},\n{"a": "\xff"}]'))
    assert told.value.where.endswith("a.json:3")


@pytest.mark.parametrize("dumps", [json.dumps, lambda value: json.dumps(value, indent=2)], ids=["one line", "indented"])
def test_a_json_file_that_is_one_row_with_messages_is_that_row(tmp_path: Path, dumps: Callable[[object], str]) -> None:
    row = {"messages": [{"role": "user", "content": "Hi"}], "rejected_response": "No"}
    assert values_of(written(tmp_path / "a.json", dumps(row))) == [row]


def test_csv_rows_keep_the_line_they_begin_on(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'a,b\n"one\n\ntwo",1\n\nthree,"4,""5"""\n')
    assert rows_of(path) == [
        SourceRow(0, 2, {"a": "one\n\ntwo", "b": "1"}),
        SourceRow(1, 6, {"a": "three", "b": '4,"5"'}),
    ]


def test_csv_rows_that_do_not_match_the_header_are_reported(tmp_path: Path) -> None:
    few, many, good = rows_of(written(tmp_path / "a.csv", "a,b\n1\n1,2,3\n1,2\n"))
    assert few == BadRow(0, 2, "the number of cells differs from the header: 1 instead of 2")
    assert many == BadRow(1, 3, "the number of cells differs from the header: 3 instead of 2")
    assert good == SourceRow(2, 4, {"a": "1", "b": "2"})


def test_csv_rows_that_are_not_utf8_are_reported_and_the_rest_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", b"a,b\ncaf\xe9,1\nx,2\n")
    reason = (
        "the row is not UTF-8 (byte 0xE9, which is é in Windows' cp1252; save it as UTF-8, or convert it: "
        "iconv -f CP1252 -t UTF-8)"
    )
    assert rows_of(path) == [BadRow(0, 2, reason), SourceRow(1, 3, {"a": "x", "b": "2"})]


def test_an_unclosed_csv_quote_is_reported_with_the_first_line_of_its_row(tmp_path: Path) -> None:
    good, bad = rows_of(written(tmp_path / "a.csv", 'a,b\n1,2\n"open,3\n4,5\n'))
    assert good == SourceRow(0, 2, {"a": "1", "b": "2"})
    assert isinstance(bad, BadRow)
    assert bad.line == 3


def test_csv_cells_may_be_longer_than_pythons_own_limit(tmp_path: Path) -> None:
    assert values_of(written(tmp_path / "a.csv", f"a,b\n{'x' * 200_000},1\n")) == [{"a": "x" * 200_000, "b": "1"}]


def test_a_csv_header_with_a_duplicate_column_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two columns named 'a'"):
        rows_of(written(tmp_path / "a.csv", "a,a\n1,2\n"))


@pytest.mark.parametrize("name", ["data.jsonl", "data.json"])
@pytest.mark.parametrize("depth", [300, 600])
def test_a_row_that_is_nested_too_deeply_is_a_bad_row(tmp_path: Path, name: str, depth: int) -> None:
    path = tmp_path / name
    inner = "[" * depth + "]" * depth
    rows = f'{{"prompt": "p", "chosen": "c", "rejected": "r", "extra": {inner}}}'
    path.write_text(f'{{"prompt": "p"}}\n{rows}\n' if name == "data.jsonl" else f'[{{"prompt": "p"}},\n{rows}]')
    _, found = open_source(str(path)).rows()
    assert found == BadRow(1, 2, "the row is nested more than 256 levels deep")
