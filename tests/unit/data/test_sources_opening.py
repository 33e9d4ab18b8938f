"""Problems on opening are reported clearly; pipes and hub data sets are read like files."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.data.records import SourceRow
from prefscope.data.sources import open_source
from prefscope.errors import DataError, MissingExtraError, UsageError

LINES = b'{"a": 1}\n{"a": 2}\n'
ROWS = [SourceRow(0, 1, {"a": 1}), SourceRow(1, 2, {"a": 2})]


def pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_missing_file_is_reported_with_the_closest_name(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_bytes(LINES)
    with pytest.raises(DataError, match="there is no such file") as told:
        open_source(str(tmp_path / "pair.jsonl"))
    assert told.value.hint == f"Did you mean {tmp_path / 'pairs.jsonl'}?"


def test_a_folder_without_data_files_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder"):
        open_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.csv", b"\xef\xbb\xbf \n\n", "is empty"),
        ("a.jsonl.gz", gzip.compress(b""), "is empty"),
        ("a.parquet", LINES, "is not Parquet, though its name ends with .parquet"),
        ("a.jsonl", b"PAR1\x00", "is Parquet, though its name ends with .jsonl"),
        ("a.jsonl.gz", LINES, "is not gzip, though its name ends with .gz"),
        ("a.jsonl", gzip.compress(LINES), "is gzip, though its name does not say so"),
        ("a.jsonl", b'[{"a": 1}]', "is a JSON array, not JSON lines"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "is UTF-16 text"),
        ("a.txt", b"hello\n", "is not in a known format"),
        ("a.jsonl.gz", gzip.compress(LINES)[:15], "the gzip data is damaged or truncated"),
    ],
    ids=[
        "empty",
        "blank",
        "empty in gzip",
        "no parquet",
        "parquet",
        "no gzip",
        "gzip",
        "array in lines",
        "utf-16",
        "unknown",
        "cut gzip",
    ],
)
def test_a_file_that_does_not_match_its_suffix_is_reported(
    tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as told:
        open_source(str(tmp_path / name))
    assert (told.value.what, told.value.where) == (what, str(tmp_path / name))


def test_damaged_parquet_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        list(open_source(str(tmp_path / "a.parquet")).rows())


def test_the_content_hash_covers_the_stored_bytes(tmp_path: Path) -> None:
    stored = gzip.compress(LINES)
    (tmp_path / "a.jsonl.gz").write_bytes(stored)
    assert open_source(str(tmp_path / "a.jsonl.gz")).content_hash() == hashlib.sha256(stored).hexdigest()


def test_hub_options_are_refused_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    with pytest.raises(UsageError, match="hub data sets"):
        open_source(str(tmp_path / "a.jsonl"), split="test")


@pytest.mark.parametrize(
    "content",
    [LINES, b'[{"a": 1},\n{"a": 2}]', gzip.compress(LINES)],
    ids=["json lines", "json array", "gzip"],
)
def test_stdin_is_sniffed_and_can_be_read_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    pipe(monkeypatch, tmp_path, content)
    source = open_source("-")
    assert (source.name, list(source.rows()), list(source.rows())) == ("stdin", ROWS, ROWS)
    assert source.content_hash() == hashlib.sha256(content).hexdigest()


def test_csv_on_stdin_is_sniffed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipe(monkeypatch, tmp_path, b"a,b\n1,2\n")
    assert list(open_source("-").rows()) == [SourceRow(0, 2, {"a": "1", "b": "2"})]


def test_parquet_on_stdin_is_sniffed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": [1, 2]}), buffer)
    pipe(monkeypatch, tmp_path, buffer.getvalue())
    assert list(open_source("-").rows()) == ROWS


def test_closing_deletes_the_copy_of_stdin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipe(monkeypatch, tmp_path, LINES)
    source = open_source("-")
    kept = list(tmp_path.iterdir())
    source.close()
    assert (len(kept), list(tmp_path.iterdir())) == (1, [])


def test_rows_of_stdin_can_be_read_without_keeping_their_source(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pipe(monkeypatch, tmp_path, LINES)
    rows = open_source("-").rows()
    assert list(rows) == ROWS
    del rows
    assert list(tmp_path.iterdir()) == []


def test_empty_stdin_is_reported_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pipe(monkeypatch, tmp_path, b"")
    with pytest.raises(DataError, match="stdin: is empty"):
        open_source("-")
    assert list(tmp_path.iterdir()) == []


def test_a_hub_id_without_the_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"prefscope\[hub\]"):
        open_source("owner/name")


def test_a_hub_data_set_that_cannot_be_loaded_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no network.\nand a page of details")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"^owner/name: cannot be loaded from the hub: no network\. Check"):
        open_source("owner/name")


def test_a_hub_data_set_can_be_read_several_times(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[object] = []

    def load(*place: object, **options: object) -> object:
        asked.append((place, options))
        return datasets.Dataset.from_list([{"a": 1}, {"a": 2}])

    monkeypatch.setattr(datasets, "load_dataset", load)
    source = open_source("owner/name", config="small", revision="v1")
    assert (list(source.rows()), list(source.rows())) == (ROWS, ROWS)
    assert asked == [(("owner/name", "small"), {"split": "train", "revision": "v1"})]
    assert len(source.content_hash()) == 64
