"""Data and settings with which some pairs fill a shard."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prefscope.folders import sample_data
from prefscope.pipeline import intake, shards
from prefscope.scoring import planning, probe

PAIRS = 90
CHUNK, SAMPLE = 10, 16
MOST_PAIRS = 2 * CHUNK
LAST_SHARD = 4
BATCH_TOKENS = 512
SMALL: list[tuple[Any, str, int]] = [
    (intake, "CHUNK_PAIRS", CHUNK),
    (planning, "SAMPLE_PAIRS", SAMPLE),
    (shards, "MOST_PAIRS", MOST_PAIRS),
    (probe, "ENOUGH_SECONDS", 0),  # its first pass is enough here
]


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Let some pairs fill a shard."""
    for module, name, value in SMALL:
        patch.setattr(module, name, value)


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    """Write rows as JSON lines and return the path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_distinct_pairs(path: Path) -> Path:
    """Write short bundled pairs in which no sequence occurs twice, as a data set of some shards."""
    seen: set[str] = set()
    kept = []
    for row in sorted(read_rows(sample_data() / "pairs.jsonl"), key=lambda row: len(json.dumps(row))):
        texts = {json.dumps([row["prompt"], row[side]]) for side in ("chosen", "rejected")}
        if len(texts) == 2 and not texts & seen:
            seen |= texts
            kept.append(row)
    order = sorted(range(PAIRS), key=lambda i: i * 7 % PAIRS)  # lengths are mixed, as they are in life
    return write_rows(path, [kept[i] for i in order])
