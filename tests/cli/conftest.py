"""Fixtures for running the program and for a scored ledger of bundled pairs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import prefscope
from prefscope.settings import DataSettings

NUM_PAIRS = 24


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return a function that writes the user's own settings file."""

    def write(text: str) -> Path:
        monkeypatch.setattr("sys.platform", "linux")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        file = tmp_path / "config" / "prefscope" / "prefscope.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def environment() -> dict[str, str]:
    """Return the environment for subprocesses, without variables that affect width, colours or buffering."""
    chosen = {
        *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
        *("TERM", "CI", "PYTHONUNBUFFERED"),
    }
    return {name: value for name, value in os.environ.items() if name not in chosen} | {"PYTHONIOENCODING": "utf-8"}


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory, samples: Path) -> Path:
    """Return the ledger of the first bundled pairs."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.parquet"
    asked = DataSettings("", limit=NUM_PAIRS)
    policy, ref = samples / "tiny-policy", samples / "tiny-ref"
    return prefscope.score(samples / "pairs.jsonl", policy, ref, data_settings=asked, output=path).path
