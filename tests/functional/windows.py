"""Data and settings with which some pairs fill a window."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prefscope.folders import sample_data
from prefscope.pipeline import intake, parts
from prefscope.scoring import planning, probe

PAIRS = 90
CHUNK, SAMPLE = 10, 16
WINDOW_TOKENS = 2 * CHUNK * parts.WEIGHT_OF_A_PAIR  # of so short pairs: two chunks
LAST_PART = 5
BATCH_TOKENS = 512
SMALL: list[tuple[Any, str, int]] = [
    (intake, "CHUNK_PAIRS", CHUNK),
    (planning, "SAMPLE_PAIRS", SAMPLE),
    (parts, "WINDOW_TOKENS", WINDOW_TOKENS),
    (probe, "ENOUGH_SECONDS", 0),  # its first pass is enough here
]


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Let some pairs fill a window."""
    for module, name, value in SMALL:
        patch.setattr(module, name, value)


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows as JSON lines and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_distinct_pairs(path: Path) -> Path:
    """Write short bundled pairs in which no sequence occurs twice, as a data set of some windows."""
    seen: set[str] = set()
    kept = []
    for row in sorted(read_rows(sample_data() / "pairs.jsonl"), key=lambda row: len(json.dumps(row))):
        texts = {json.dumps([row["prompt"], row[side]]) for side in ("chosen", "rejected")}
        if len(texts) == 2 and not texts & seen:
            seen |= texts
            kept.append(row)
    order = sorted(range(PAIRS), key=lambda i: i * 7 % PAIRS)  # lengths are mixed, as they are in life
    return write_rows(path, [kept[i] for i in order])
