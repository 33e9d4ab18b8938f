"""Numbers, types and missing values of the flat table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.errors import ResourceError, UsageError
from prefscope.ledger.columns import DERIVED, LOGPS, NUM_TOKENS
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.report.export import blocks, export, export_suffix
from prefscope.settings import LossChoice, PreferenceSettings

REFERENCE_COLUMNS = tuple(column.name for column in DERIVED.values() if column.exported)
PAIR = {"logps": (-50.0, -60.0, -52.0, -58.0)}


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def unreferenced(write_pairs: Callable[..., Path]) -> Ledger:
    path = write_pairs([{"logps": (-50.0, -60.0, None, None)}], manifest={"has_reference": False})
    return load_ledger(path)


def test_every_number_reads_back_as_the_very_same_double(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    sums = -np.random.default_rng(0).lognormal(3, 4, (200, 4))
    ledger = load_ledger(write_pairs([{"logps": tuple(row)} for row in sums.tolist()]))
    export(ledger, PreferenceSettings(), tmp_path / "x.csv")
    cells = read_csv(tmp_path / "x.csv")
    derived = ledger.derived(PreferenceSettings())
    for name in ("policy_chosen_logps", "ref_rejected_logps"):
        assert [float(row[name]) for row in cells] == ledger.stored[name].tolist()
    for name in ("margins", "dpo_loss", "ipo_loss", "simpo_loss"):
        assert [float(row[name]) for row in cells] == derived[name].tolist()


def test_without_a_reference_its_columns_are_empty_and_only_simpo_is_computed(
    unreferenced: Ledger, tmp_path: Path
) -> None:
    export(unreferenced, PreferenceSettings(), tmp_path / "x.csv")
    (row,) = read_csv(tmp_path / "x.csv")
    assert {row[name] for name in ("ref_chosen_logps", "ref_rejected_logps", *REFERENCE_COLUMNS)} == {""}
    assert [name for name in row if name.endswith("_loss")] == ["simpo_loss"]
    assert row["policy_chosen_logps"] == "-50.0"


def test_with_and_without_a_reference_the_columns_are_in_the_same_order(
    unreferenced: Ledger, write_pairs: Callable[..., Path]
) -> None:
    preferences = PreferenceSettings(losses=(LossChoice("simpo"),))
    referenced = load_ledger(write_pairs([PAIR], name="full.parquet"))
    first, second = (list(next(blocks(ledger, preferences, texts=True))) for ledger in (unreferenced, referenced))
    assert first == second


def test_a_loss_that_needs_the_missing_reference_leaves_no_file(unreferenced: Ledger, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="loss dpo needs a reference"):
        export(unreferenced, PreferenceSettings(losses=(LossChoice("dpo"),), explicit=True), tmp_path / "x.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.parquet"]


def test_unknown_token_counts_are_empty(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    ledger = load_ledger(write_pairs([PAIR | {"chosen_num_tokens": -1, "rejected_num_tokens": -1}]))
    export(ledger, PreferenceSettings(), tmp_path / "x.csv")
    (row,) = read_csv(tmp_path / "x.csv")
    assert (row["chosen_num_tokens"], row["rejected_num_tokens"]) == ("", "")


def test_parquet_has_a_type_for_every_column(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    extra = {
        "rating": ("integer", [1, None]),
        "score": ("number", [0.5, None]),
        "ok": ("boolean", [True, None]),
        "note": ("text", ["a", None]),
        "tags": ("json", ["[1]", None]),
    }
    ledger = load_ledger(write_pairs([PAIR, PAIR], extra=extra, groups=2))
    export(ledger, PreferenceSettings(losses=(LossChoice("dpo"),)), tmp_path / "x.parquet", texts=True)
    found = {field.name: field.type for field in pq.read_schema(tmp_path / "x.parquet")}
    whole = ("row", "rating", *NUM_TOKENS)
    text = ("pair_id", "note", "tags", "outcome", "flags", "prompt", "chosen", "rejected")
    number = ("score", *LOGPS, *(name for name in REFERENCE_COLUMNS if name != "outcome"), "dpo_loss")
    assert found == {
        **dict.fromkeys(whole, pa.int64()),
        **dict.fromkeys(number, pa.float64()),
        **dict.fromkeys(text, pa.string()),
        "ok": pa.bool_(),
    }


def test_parquet_has_the_rows_of_every_group_and_null_where_csv_is_empty(
    write_pairs: Callable[..., Path], tmp_path: Path
) -> None:
    ledger = load_ledger(write_pairs([PAIR] * 5, extra={"n": ("integer", [0, None, 2, 3, 4])}, groups=3))
    export(ledger, PreferenceSettings(), tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet").to_pydict()
    assert table["row"] == [0, 1, 2, 3, 4]
    assert table["n"] == [0, None, 2, 3, 4]
    assert table["margins"] == pytest.approx([0.4] * 5)


def test_the_reference_columns_of_parquet_are_null_without_a_reference(unreferenced: Ledger, tmp_path: Path) -> None:
    export(unreferenced, PreferenceSettings(), tmp_path / "x.parquet")
    (row,) = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert {row[name] for name in ("ref_chosen_logps", "ref_rejected_logps", *REFERENCE_COLUMNS)} == {None}


@pytest.mark.parametrize("name", ["x.xlsx", "x", "x.CSV", "x.gz", "x.parquet.gz"])
def test_a_suffix_of_no_format_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(UsageError, match=r"Use one of \.csv, \.tsv, \.jsonl, \.csv\.gz, .*\.parquet\."):
        export_suffix(name)


def test_an_output_that_cannot_be_written_is_reported(write_pairs: Callable[..., Path]) -> None:
    path = write_pairs([PAIR])
    with pytest.raises(ResourceError, match=r"this file cannot be written \(.+\)\. Choose another place\."):
        export(load_ledger(path), PreferenceSettings(), path / "x.csv")


def test_missing_folders_are_made(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    export(load_ledger(write_pairs([PAIR])), PreferenceSettings(), tmp_path / "a" / "b.csv")
    assert (tmp_path / "a" / "b.csv").is_file()
