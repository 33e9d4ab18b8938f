"""A data set of several shards, and the commands that score it: their options, processes and results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from prefscope.cli.app import run
from prefscope.folders import sample_data
from prefscope.pipeline import reader, shards
from prefscope.scoring import planning, probe
from tests.functional.runs import POLICY, REF

Program: TypeAlias = Callable[..., tuple[int, str, str]]
PAIRS = 90
LIMIT = 40  # of them a command scores
BATCH_TOKENS = 256
OPTIONS = [
    *("--policy", str(POLICY), "--ref", str(REF), "--threads", "1"),
    *("--batch-tokens", str(BATCH_TOKENS), "--limit", str(LIMIT)),
]
FEWEST_TOKENS = 1 << 10
CHUNK, SAMPLE = 10, 16
MOST_PAIRS = 2 * CHUNK
LAST_SHARD = 4
BY_PAIRS: list[tuple[Any, str, int]] = [
    (reader, "CHUNK_PAIRS", CHUNK),
    (planning, "SAMPLE_PAIRS", SAMPLE),
    (shards, "MOST_PAIRS", MOST_PAIRS),
    (probe, "ENOUGH_SECONDS", 0),  # its first pass is enough here
]
CHILD = f"""
import signal
from prefscope.cli.app import main
from prefscope.pipeline import shards
signal.signal(signal.SIGINT, signal.default_int_handler)
shards.FEWEST_TOKENS = {FEWEST_TOKENS}
main()
"""


def cut_by_tokens(patch: pytest.MonkeyPatch) -> None:
    """Limit shards to few tokens."""
    patch.setattr(shards, "FEWEST_TOKENS", FEWEST_TOKENS)


def cut_by_pairs(patch: pytest.MonkeyPatch) -> None:
    """Limit shards to few pairs."""
    for module, name, value in BY_PAIRS:
        patch.setattr(module, name, value)


def read_rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def distinct_pairs() -> list[Any]:
    """Return short bundled pairs in which no sequence occurs twice."""
    seen: set[str] = set()
    kept = []
    for row in sorted(read_rows(sample_data() / "pairs.jsonl"), key=lambda row: len(json.dumps(row))):
        texts = {json.dumps([row["prompt"], row[side]]) for side in ("chosen", "rejected")}
        if len(texts) == 2 and not texts & seen:
            seen |= texts
            kept.append(row)
    order = sorted(range(PAIRS), key=lambda i: i * 7 % PAIRS)  # lengths are mixed, as they are in life
    return [kept[i] for i in order]


def call(*arguments: str | Path) -> int:
    """Run a command line in this process and return its exit code."""
    return run([str(argument) for argument in arguments])


def start(
    *arguments: str, stdout: int = subprocess.DEVNULL, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Run a command line in a separate process, with shards of few tokens."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env=os.environ | (environment or {}),
    )


def slice_command(data: Path, parts: Path | str, slice_: str) -> list[str]:
    """Return the command line that scores a slice into a folder or an object store."""
    return ["score", str(data), *OPTIONS, "--no-cache", "--parts", str(parts), "--slice", slice_]


def fill(data: Path, parts: Path | str, slices: Sequence[int] = (0, 1)) -> None:
    """Score all slices, one after the other."""
    for number in slices:
        assert call(*slice_command(data, parts, f"{number}/{len(slices)}")) == 0


def table_of(ledger: Path | str) -> bytes:
    """Return the flat table of a ledger."""
    assert call("export", ledger, "-o", "table.csv") == 0
    return Path("table.csv").read_bytes()


def merged_table(parts: Path | str) -> bytes:
    """Return the flat table of the ledger merged from the parts."""
    assert call("parts", "merge", parts, "-o", "merged.parquet") == 0
    return table_of("merged.parquet")


def assert_damage_is_reported_and_recomputed(
    program: Program, part: str, data: Path, parts: Path | str, whole: bytes, *, named: str
) -> None:
    """Check that a damaged part is detected, refused and deleted, and recomputed by its slice.

    Args:
        program: Runs a command line and returns its exit code, output and errors.
        part: Its path or its URL, as `verify` tells it.
        data: The data set.
        parts: The folder or the object store that it is in.
        whole: The table of an undisturbed run.
        named: What a merge calls it.
    """
    code, _, err = program("parts", "merge", parts, "-o", "merged.parquet")
    assert (code, f"{named}: this part is damaged" in err) == (3, True)
    assert program("parts", "verify", parts)[:2] == (1, f"damaged: {part}\n")
    assert program("parts", "verify", parts, "--delete")[:2] == (0, f"deleted: {part}\n")
    fill(data, parts)
    assert program("parts", "verify", parts)[:2] == (0, "All parts are intact.\n")
    assert merged_table(parts) == whole


def parts_in(folder: Path) -> dict[str, bytes]:
    """Return the content of all parts by name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def leftovers(folder: Path) -> list[Path]:
    """Return the unfinished files of a folder."""
    return [path for path in folder.rglob("*") if path.name.startswith(".")]
