"""Files are in the user's standard folders, or where requested."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefscope.folders import cache_folder, log_folder, sample_data, store_path, unnamed_ledger


def test_the_bundled_samples_are_found() -> None:
    found = {path.name for path in sample_data().iterdir()}
    assert {"pairs.jsonl", "tiny-policy", "tiny-ref"} <= found


def test_the_store_is_in_the_requested_cache_folder() -> None:
    assert cache_folder("here") == Path("here")
    assert store_path("here") == Path("here/logps.sqlite")


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("~/cache") == tmp_path / "cache"


def test_store_ledgers_and_logs_are_in_the_users_folders_by_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in ("CACHE", "DATA", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    assert store_path(None) == tmp_path / "cache" / "prefscope" / "logps.sqlite"
    assert unnamed_ledger("a/pairs.jsonl.gz", "0f") == tmp_path / "data" / "prefscope" / "ledgers" / "pairs-0f.parquet"
    assert log_folder() == tmp_path / "state" / "prefscope" / "log"


def test_the_ledger_of_standard_input_is_named_after_it() -> None:
    assert unnamed_ledger("-", "0f").name == "stdin-0f.parquet"
