"""Files of a folder of parts with valid digests and invalid values: refused by name, never a traceback."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.errors import ResourceError
from prefscope.pipeline.parts.folder import DamagedPartError, PartsFolder, part_path, sealed_json
from prefscope.pipeline.parts.logps import PartLogps
from prefscope.pipeline.parts.places import LocalFolder
from prefscope.pipeline.parts.plan_file import _digest_of, open_plan, plan_content
from prefscope.pipeline.shards import Plan
from prefscope.scoring.sequences import TokenSequence

PLAN: dict[str, Any] = {
    "format": 1,
    "asked": {},
    "source": {"name": "data.jsonl", "size": 10},
    "data": {
        "name": "data.jsonl",
        "content_hash": "a",
        "pairs": 1,
        "bad_rows": 0,
        "dialects": {},
        "tokenizer_hash": "b",
        "template_hash": "",
        "max_length": None,
    },
    "columns": {"topic": "text"},
    "chunk_pairs": [1],
    "digests": {},
    "shards": [{"name": "ab12", "pairs": 1, "sequences": 2, "tokens": 6}],
}
ONE = TokenSequence(np.array([1, 2, 3], dtype=np.int32), 1)


@pytest.fixture
def folder(tmp_path: Path) -> PartsFolder:
    return PartsFolder(LocalFolder(tmp_path))


def planned(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_bytes(sealed_json(content))


def test_a_complete_plan_is_read(folder: PartsFolder, tmp_path: Path) -> None:
    planned(tmp_path, PLAN)
    assert plan_content(folder)["shards"][0]["name"] == "ab12"


@pytest.mark.parametrize(
    "changed",
    [
        {"format": "1"},
        {"source": {}},
        {"data": PLAN["data"] | {"pairs": "1"}},
        {"data": PLAN["data"] | {"from_later": 1}},
        {"columns": {"topic": "tensor"}},
        {"chunk_pairs": [-1]},
        {"digests": []},
        {"shards": [{"name": "../../x", "sequences": 2, "tokens": 6}]},
        {"shards": [{"name": "ab12", "sequences": 2, "tokens": "many"}]},
    ],
    ids=str,
)
def test_a_plan_with_a_value_of_the_wrong_type_is_refused(
    folder: PartsFolder, tmp_path: Path, changed: dict[str, Any]
) -> None:
    planned(tmp_path, PLAN | changed)
    with pytest.raises(ResourceError, match="the plan of these parts is damaged"):
        plan_content(folder)


@pytest.mark.parametrize(
    ("scopes", "manifest"),
    [
        ({"policy": 5}, {"models": {"policy": {"name": "p"}}}),
        ({"judge": "aa"}, {"models": {"judge": {"name": "p"}}}),
        ({"policy": "aa"}, {"models": []}),
        ({"policy": "aa"}, {"models": {"policy": {}}}),
    ],
    ids=str,
)
def test_a_record_without_models_is_refused(
    folder: PartsFolder, scopes: dict[str, Any], manifest: dict[str, Any]
) -> None:
    folder.publish_run("run", scopes, manifest)
    with pytest.raises(ResourceError, match=r"run\.json: this record of a run is damaged"):
        folder.runs()


def rewritten(tmp_path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = tmp_path / part_path("aa", "ab12")
    pq.write_table(change(pq.read_table(path)), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.replace_schema_metadata({b"prefscope_part": b"[1]"}),
        lambda table: table.replace_schema_metadata({b"prefscope_part": b"[" * 100_000}),
        lambda table: table.replace_schema_metadata(None),
        lambda table: table.rename_columns(["digest", "other"]),
        lambda table: table.set_column(1, "logps", pa.array([[None]], pa.list_(pa.float32()))),
        lambda table: table.set_column(0, "digest", pa.array([None], pa.binary(16))),
    ],
    ids=["list", "nested", "no metadata", "column", "a missing log-prob", "a missing digest"],
)
def test_a_part_with_a_value_of_the_wrong_type_is_refused(
    folder: PartsFolder, tmp_path: Path, change: Callable[[pa.Table], pa.Table]
) -> None:
    folder.write_part("aa", "ab12", {ONE.digest(): np.array([-1.0, -2.0], dtype=np.float32)})
    rewritten(tmp_path, change)
    with pytest.raises(DamagedPartError, match=r"ab12\.parquet: this part is damaged"):
        folder.read_part("aa", "ab12")


def test_a_part_whose_description_is_not_an_object_counts_as_missing(folder: PartsFolder, tmp_path: Path) -> None:
    folder.write_part("aa", "ab12", {ONE.digest(): None})
    assert folder.written("aa", ["ab12"]) == {"ab12"}
    rewritten(tmp_path, lambda table: table.replace_schema_metadata({b"prefscope_part": b"5"}))
    assert folder.written("aa", ["ab12"]) == set()


@pytest.mark.parametrize("found", [{}, {ONE.digest(): np.zeros(5, dtype=np.float32)}], ids=["missing", "too many"])
def test_a_part_without_the_log_probs_of_a_sequence_is_refused(folder: PartsFolder, found: Any) -> None:
    folder.write_part("aa", "ab12", found)
    plan = Plan(np.array([0]), np.array([0, 1]), np.array([0, 1]), ("ab12",))
    with pytest.raises(DamagedPartError, match=r"ab12\.parquet: this part is damaged"):
        PartLogps(folder, plan, {"policy": "aa"}).logps("policy", "chosen", 0, [ONE])


def test_an_invalid_manifest_is_not_merged(folder: PartsFolder, tmp_path: Path) -> None:
    from prefscope.pipeline.parts.merge import merge

    planned(tmp_path, PLAN)
    folder.publish_run("run", {"policy": "aa"}, json.loads('{"models": {"policy": {"name": "p"}}, "settings": []}'))
    with pytest.raises(ResourceError, match=r"run\.json: this record of a run is damaged"):
        merge(folder, None, lambda *_: tmp_path / "out.parquet", lambda _: None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_temporary_folder_is_reported_if_a_plan_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: open("/dev/full", "w+b", 0))  # noqa: PTH123, SIM115
    with pytest.raises(
        ResourceError, match=r"cannot be written to a temporary file \(No space left on device\)"
    ) as told:
        _digest_of(lambda stream: stream.write(b"x"))
    assert told.value.where == tempfile.gettempdir()


def test_a_modified_plan_file_is_reported(folder: PartsFolder, tmp_path: Path) -> None:
    planned(tmp_path, PLAN | {"digests": {"tokens.json": _digest_of(lambda stream: stream.write(b"[]"))}})
    (tmp_path / "plan" / "tokens.json").write_bytes(b'["a"]')
    with pytest.raises(ResourceError, match=r"plan/tokens\.json: the plan of these parts is damaged"):
        open_plan(folder)
