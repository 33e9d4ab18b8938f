"""The program, run in its own folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import prefscope
from prefscope.ledger.table import Ledger
from tests.functional.runs import Loads, watch_loads

NUM_PAIRS = 6


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    """Return a record of the models that the test loads."""
    return watch_loads(monkeypatch)


@pytest.fixture(scope="session")
def rows(samples: Path) -> list[dict[str, Any]]:
    """Return a few short bundled pairs, as they are in the data set."""
    lines = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    found: list[dict[str, Any]] = sorted(map(json.loads, lines), key=lambda row: len(json.dumps(row)))
    return found[:NUM_PAIRS]


@pytest.fixture(scope="session")
def write_jsonl() -> Callable[..., Path]:
    """Return a function that writes rows as JSON lines and returns the path."""

    def write(path: str | Path, rows: Sequence[Any]) -> Path:
        Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return Path(path)

    return write


@pytest.fixture
def pairs(tmp_path: Path, rows: list[dict[str, Any]], write_jsonl: Callable[..., Path]) -> Path:
    """Return the short pairs as a file in the test's folder."""
    return write_jsonl(tmp_path / "pairs.jsonl", rows)


@pytest.fixture(scope="session")
def models(samples: Path) -> list[str]:
    """Return the options that name the tiny policy and its reference."""
    return ["--policy", str(samples / "tiny-policy"), "--ref", str(samples / "tiny-ref")]


@pytest.fixture(scope="session")
def scored(
    tmp_path_factory: pytest.TempPathFactory,
    samples: Path,
    rows: list[dict[str, Any]],
    write_jsonl: Callable[..., Path],
) -> Ledger:
    """Return the ledger of the short pairs."""
    folder = tmp_path_factory.mktemp("scored")
    data = write_jsonl(folder / "pairs.jsonl", rows)
    return prefscope.score(data, samples / "tiny-policy", samples / "tiny-ref", output=folder / "ledger.parquet")
