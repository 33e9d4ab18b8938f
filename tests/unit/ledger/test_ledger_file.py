"""The ledger file: contents round-trip, and other files are refused with a message."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.errors import LedgerError, ResourceError
from prefscope.ledger.file import METADATA_KEY, build_schema, open_parquet, store_as, widen, write_ledger
from prefscope.ledger.table import Ledger, load_ledger

A = {"logps": (-50.0, -60.0, -52.0, -58.0)}


def kind_of(values: list[Any]) -> Any:
    kind = None
    for value in values:
        kind = widen(kind, value)
    return kind


def test_the_manifest_round_trips(write_pairs: Callable[..., Path]) -> None:
    given = {"settings": {"données": [1, 2.5, None, {"a": "漢字 \x1b"}]}, "bundled": True}
    manifest = Ledger(write_pairs([A], manifest=given)).manifest
    assert {key: manifest[key] for key in given} == given
    assert manifest["format"] == 1


def test_describe_is_the_manifest_as_json(write_pairs: Callable[..., Path]) -> None:
    ledger = Ledger(write_pairs([A]))
    assert json.loads(ledger.describe()) == ledger.manifest


@pytest.mark.parametrize(
    ("kind", "values", "stored"),
    [
        ("integer", [1, None, -(2**63)], [1, None, -(2**63)]),
        ("number", [1, 0.5, None], [1.0, 0.5, None]),
        ("boolean", [True, None, False], [True, None, False]),
        ("text", ["", None, "漢\n"], ["", None, "漢\n"]),
        ("json", [{"a": [1, "é"]}, None, []], ['{"a": [1, "é"]}', None, "[]"]),
        ("json", [1, "one", None], ["1", '"one"', None]),
        ("json", [True, 1, 0.5], ["true", "1", "0.5"]),
        ("json", [2**63, 1, None], ["9223372036854775808", "1", None]),
    ],
    ids=["integer", "number", "boolean", "text", "nested", "mixed", "boolean among numbers", "beyond 64 bits"],
)
def test_an_extra_column_is_read_back_in_the_narrowest_type(
    write_pairs: Callable[..., Path], kind: str, values: list[Any], stored: list[Any]
) -> None:
    found = kind_of(values)
    assert found == kind
    path = write_pairs([A] * 3, extra={"c": (found, [store_as(found, value) for value in values])})
    ledger = Ledger(path)
    assert ledger.extra_columns == {"c": kind}
    assert next(ledger.read(["c"]))["c"] == stored


def test_an_empty_column_has_no_type_yet() -> None:
    assert kind_of([None, None]) is None


def test_a_ledger_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "new.parquet"
    metadata = {METADATA_KEY: json.dumps({"format": 2}).encode()}
    pq.write_table(pa.table({"row": [0]}).replace_schema_metadata(metadata), path)
    told = f"{path}: this ledger was written by a newer prefscope. Update prefscope."
    with pytest.raises(LedgerError, match=f"^{re.escape(told)}$"):
        Ledger(path)


def test_another_parquet_file_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"prompt": ["a"]}), path)
    told = f"{path}: this Parquet file is not a prefscope ledger. To score it: prefscope score FILE."
    with pytest.raises(LedgerError, match=f"^{re.escape(told)}$"):
        Ledger(path)


@pytest.mark.parametrize("kept", [0, 3, 100, -1], ids=["empty", "a few bytes", "the beginning", "all but the last"])
def test_a_truncated_file_is_refused(write_pairs: Callable[..., Path], kept: int) -> None:
    path = write_pairs([A])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(LedgerError, match=re.escape(f"{path}: this is not a complete Parquet file. Create it again.")):
        Ledger(path)


def test_a_folder_is_not_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="this is a folder, not a ledger"):
        Ledger(tmp_path)


def test_a_missing_ledger_is_reported_with_advice(tmp_path: Path) -> None:
    told = f"{tmp_path / 'x'}: there is no such ledger. Create one with prefscope score."
    with pytest.raises(LedgerError, match=f"^{re.escape(told)}$"):
        Ledger(tmp_path / "x")


def test_a_ledger_appears_only_when_complete(write_pairs: Callable[..., Path], tmp_path: Path) -> None:
    former = write_pairs([A]).read_bytes()

    def groups() -> Iterator[dict[str, list[Any]]]:
        yield from ()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_ledger(tmp_path / "ledger.parquet", build_schema({}, {}, tokens=False), groups())
    assert [file.name for file in tmp_path.iterdir()] == ["ledger.parquet"]
    assert (tmp_path / "ledger.parquet").read_bytes() == former


def test_an_unwritable_path_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"the ledger cannot be written \(Not a directory|File exists\)"):
        write_ledger(tmp_path / "file" / "x.parquet", build_schema({}, {}, tokens=False), [])


def test_missing_folders_are_created(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.parquet"
    write_ledger(path, build_schema({}, {"has_reference": True}, tokens=False), [])
    assert open_parquet(path)[0].metadata.num_rows == 0


def test_a_folder_that_cannot_be_read_can_still_be_written_to(
    write_pairs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse_folders(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *more, **options)

    monkeypatch.setattr("prefscope.ledger.file.os.open", refuse_folders)
    assert load_ledger(write_pairs([{"logps": (-1.0, -2.0, -1.0, -2.0)}])).num_pairs == 1
