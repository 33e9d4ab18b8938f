"""A damaged plan or run record is refused by name; those written before there were digests are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefscope.errors import ResourceError
from prefscope.pipeline.parts.folder import PartsFolder, sealed_json, unsealed
from prefscope.pipeline.parts.places import LocalFolder


def test_a_run_record_round_trips(tmp_path: Path) -> None:
    folder = PartsFolder(LocalFolder(tmp_path))
    folder.publish_run("run", {"policy": "aa"}, {"models": {"policy": {"name": "é"}}})
    (record,) = folder.runs()
    assert (record.scopes, record.manifest) == ({"policy": "aa"}, {"models": {"policy": {"name": "é"}}})


def test_a_modified_run_record_is_refused(tmp_path: Path) -> None:
    folder = PartsFolder(LocalFolder(tmp_path))
    folder.publish_run("run", {"policy": "aa"}, {"beta": 0.1})
    path = tmp_path / "runs" / "run.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.1", "0.3"), encoding="utf-8")
    with pytest.raises(ResourceError, match=r"run\.json: this record of a run is damaged"):
        folder.runs()


@pytest.mark.parametrize("text", ["[]", "5", "{", "[" * 100_000], ids=["list", "number", "cut", "nested"])
def test_an_invalid_run_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(ResourceError, match="this record of a run is damaged"):
        PartsFolder(LocalFolder(tmp_path)).runs()


def test_records_written_without_digests_can_be_read() -> None:
    assert unsealed({"a": 1}) == {"a": 1}


def test_a_sealed_record_does_not_depend_on_white_space() -> None:
    assert unsealed(json.loads(sealed_json({"b": [1.5, "é"], "a": None}, indent=1))) == {"b": [1.5, "é"], "a": None}
