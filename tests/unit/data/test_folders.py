"""A folder, a glob or several files form one data set, and splits are never mixed silently."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.data.checks import lint_pairs
from prefscope.data.reading import pairs_of
from prefscope.data.records import BadRow, PreferencePair, SourceRow
from prefscope.data.sources import open_several, open_source
from prefscope.errors import DataError, UsageError
from tests.unit.data.checked import findings


def write(path: Path, *numbers: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"n": list(numbers)}), path)
    else:
        path.write_text("".join(json.dumps({"n": number}) + "\n" for number in numbers), encoding="utf-8")
    return path


def numbers(name: str | Path, split: str | None = None) -> list[int]:
    rows = open_source(str(name), split=split).rows()
    return [row.value["n"] for row in rows if isinstance(row, SourceRow)]


def pairs_in(folder: Path) -> list[PreferencePair]:
    return [found[0] for found in pairs_of(open_source(str(folder))) if not isinstance(found, BadRow)]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_shards_of_a_folder_are_read_in_numeric_order(tmp_path: Path, suffix: str) -> None:
    for number in (10, 2, 1):
        write(tmp_path / f"part-{number}{suffix}", number)
    assert numbers(tmp_path) == numbers(f"{tmp_path}/part-*{suffix}") == [1, 2, 10]


def test_rows_are_numbered_across_files_and_keep_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1)
    (tmp_path / "b.jsonl").write_text('{"n": 2}\nbroken\n')
    one, two, bad = open_source(str(tmp_path)).rows()
    assert one == SourceRow(0, 1, {"n": 1}, "a.jsonl")
    assert two == SourceRow(1, 1, {"n": 2}, "b.jsonl")
    assert bad == BadRow(2, 2, "the line is not JSON (Expecting value at column 1)", "b.jsonl")


@pytest.mark.parametrize(
    "names",
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("data/train_prefs-00000-of-00001.jsonl", "data/test_prefs-00000-of-00001.jsonl"),
        ("train.jsonl", "validation.jsonl"),
        ("train/a.jsonl", "dev/a.jsonl"),
        ("rm-train.jsonl", "rest.jsonl"),
        ("train_sft.jsonl", "train_prefs.jsonl"),
    ],
)
def test_files_of_several_splits_need_a_split(tmp_path: Path, names: tuple[str, str]) -> None:
    for number, name in enumerate(names):
        write(tmp_path / name, number)
    for pattern in (tmp_path, f"{tmp_path}/**/*.*"):
        with pytest.raises(DataError, match="contains several splits: ") as told:
            open_source(str(pattern))
        assert "--split " in told.value.hint


def test_a_split_selects_its_files(tmp_path: Path) -> None:
    write(tmp_path / "data" / "train-00000-of-00002.jsonl", 1)
    write(tmp_path / "data" / "train-00001-of-00002.jsonl", 2)
    write(tmp_path / "data" / "test-00000-of-00001.jsonl", 3)
    assert (numbers(tmp_path, "train"), numbers(tmp_path, "test")) == ([1, 2], [3])
    assert numbers(f"{tmp_path}/data/*", "test") == [3]
    with pytest.raises(DataError, match="has no split `dev`; found: `test`, `train`"):
        open_source(str(tmp_path), split="dev")


def test_a_missing_shard_of_a_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00003.jsonl", 1)
    write(tmp_path / "train-00002-of-00003.jsonl", 1)
    with pytest.raises(DataError, match="shard 1 of train is missing"):
        open_source(str(tmp_path))


def test_files_of_several_formats_in_a_folder_are_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1)
    write(tmp_path / "a.parquet", 1)
    with pytest.raises(DataError, match=r"several formats \(1 jsonl, 1 parquet\)"):
        open_source(str(tmp_path))


def test_metadata_files_are_skipped_and_other_files_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1)
    for name in ("README.md", "dataset_infos.json", ".hidden.jsonl", "_SUCCESS", "notes.doc"):
        (tmp_path / name).write_text("{}")
    source = open_source(str(tmp_path))
    assert len(list(source.rows())) == 1
    assert source.remarks == ("skipped, because their format is unknown: notes.doc",)


def test_the_hash_of_several_files_covers_all_of_them_and_their_order(tmp_path: Path) -> None:
    one, other = str(write(tmp_path / "a.jsonl", 1)), str(write(tmp_path / "b.jsonl", 2))
    hashes = {open_several(names).content_hash() for names in ([one, other], [other, one], [one])}
    before = open_source(str(tmp_path)).content_hash()
    write(tmp_path / "b.jsonl", 3)
    assert len(hashes) == 3
    assert before in hashes
    assert open_source(str(tmp_path)).content_hash() not in hashes


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    names = [str(write(tmp_path / name, number)) for name, number in (("b.jsonl", 1), ("a.parquet", 2))]
    source = open_several(names)
    assert [row.value for row in source.rows() if isinstance(row, SourceRow)] == [{"n": 1}, {"n": 2}]
    assert (source.name, source.files) == (f"{names[0]} and 1 more", (tmp_path / "b.jsonl", tmp_path / "a.parquet"))


def test_files_of_different_splits_are_noted(tmp_path: Path) -> None:
    names = [str(write(tmp_path / name, 1)) for name in ("train.jsonl", "test.jsonl")]
    assert open_several(names).remarks == ("files of several splits are read together: train, test",)


def test_the_same_file_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", 1)
    with pytest.raises(UsageError, match="named twice"):
        open_several([str(tmp_path), str(tmp_path / "a.jsonl")])


def test_a_pattern_that_matches_nothing_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="matches no files"):
        open_source(f"{tmp_path}/*.jsonl")


def test_a_folder_with_a_checkpoint_is_not_a_data_set(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(DataError, match="a model checkpoint"):
        open_source(str(tmp_path))


CALL = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"limit": None}}]}
OTHER = {"role": "assistant", "content": None, "tool_calls": [{"name": "f", "arguments": {"city": "Oslo", "n": [1]}}]}


@pytest.fixture
def saved(tmp_path: Path) -> datasets.Dataset:
    """Return what `datasets` reads of rows whose tool calls have other arguments each."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"n": i, "chosen": [turn]}) + "\n" for i, turn in enumerate((CALL, OTHER))))
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))


def test_a_data_set_saved_to_disk_is_read_with_its_json_columns(saved: datasets.Dataset, tmp_path: Path) -> None:
    saved.save_to_disk(str(tmp_path / "saved"), num_shards=2)
    rows = [row.value["chosen"] for row in open_source(str(tmp_path / "saved")).rows() if isinstance(row, SourceRow)]
    assert rows == [[CALL], [OTHER]] == saved["chosen"][:]


def test_json_in_parquet_is_decoded_as_datasets_does(saved: datasets.Dataset, tmp_path: Path) -> None:
    saved.to_parquet(str(tmp_path / "rows.parquet"))
    rows = open_source(str(tmp_path / "rows.parquet")).rows()
    assert [row.value["chosen"] for row in rows if isinstance(row, SourceRow)] == [[CALL], [OTHER]]


def test_saved_splits_need_a_split(saved: datasets.Dataset, tmp_path: Path) -> None:
    datasets.DatasetDict(train=saved, test=saved.select([1])).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="contains several splits: `train`, `test`"):
        open_source(str(tmp_path / "saved"))
    assert (numbers(tmp_path / "saved", "train"), numbers(tmp_path / "saved", "test")) == ([0, 1], [1])


def test_findings_name_the_file_of_a_row(tmp_path: Path) -> None:
    row = {"prompt": "How tall is it?", "chosen": "4", "rejected": "5"}
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / name).write_text(json.dumps(row) + "\n")
    found = findings(lint_pairs(pairs_in(tmp_path)))
    (example,) = found["duplicate_pairs"].found.examples
    assert (example.place, example.like) == ("b.jsonl:1", "a.jsonl:1")


def test_rows_of_several_files_have_their_file_as_a_column(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "q", "chosen": "a", "rejected": "b", "n": 1}))
    (pair,) = pairs_in(tmp_path)
    assert pair.columns == {"source_file": "a.jsonl", "n": 1}
