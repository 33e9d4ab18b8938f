"""What the log-prob store costs at a million sequences, as a share of the scoring that it saves.

    python tests/benchmarks/store.py [--sequences 1000000] [--gpu 20000] [--cpu 3000]

Method: a store in a temporary folder (1.2 GB at the default size) is filled with sequences of 250 numbers, committed in
batches of 40 as the engine does. Only the store's own calls are timed. Then it is asked for all of them in a shuffled
order, the worst there is: `missing` in windows of 32,768 keys, as the pipeline plans, and in batches of 40, as it looks
before each forward pass; `lookup` in groups of 2,000, as the ledger is written. Cold: the operating system was told to
forget the file (Linux only). Warm: asked once more. "Not there" are as many keys that the full store does not hold.

A share is the seconds for a row against the seconds that its 250 tokens take at a stated speed of the engine; prompts,
which would make the share smaller, count for nothing. A first run asks three times for what is not there (the estimate,
the plan, the look before the forward pass), commits it and reads it back warm: that is the last line, to be below 2%.
The last figures are in README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from prefscope.scoring.store import LogpStore, sequence_key

TOKENS = 250
BATCH = 40
WINDOW = 32_768
GROUP = 2_000
POOL = 1 << 20

Ask = Callable[[LogpStore, Sequence[bytes]], int]


def keys_of(scope: bytes, count: int) -> list[bytes]:
    """Return keys as scattered as real ones."""
    return [sequence_key(scope, i.to_bytes(16, "little")) for i in range(count)]


def chunks(keys: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    """Yield the keys in pieces."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


def fill(path: Path, keys: Sequence[bytes]) -> float:
    """Commit a row a key and return the seconds that it took."""
    pool = np.random.default_rng(0).standard_normal(POOL + TOKENS, dtype=np.float32)
    starts = np.random.default_rng(1).integers(0, POOL, len(keys)).tolist()
    seconds = 0.0
    with LogpStore(path) as store:
        for first in range(0, len(keys), BATCH):
            batch = keys[first : first + BATCH]
            rows = [(key, pool[s : s + TOKENS]) for key, s in zip(batch, starts[first:], strict=False)]
            started = time.perf_counter()
            store.commit(rows)
            seconds += time.perf_counter() - started
        started = time.perf_counter()
    return seconds + time.perf_counter() - started


def forget(path: Path) -> None:
    """Drop the file from the operating system's cache."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def ask(path: Path, keys: Sequence[bytes], size: int, call: Ask, expected: int) -> float:
    """Return the seconds for asking about all keys, opening and closing the store included."""
    started = time.perf_counter()
    with LogpStore(path) as store:
        answers = sum(call(store, piece) for piece in chunks(keys, size))
    if answers != expected:
        raise SystemExit(f"{answers} answers instead of {expected}")
    return time.perf_counter() - started


def missing(store: LogpStore, keys: Sequence[bytes]) -> int:
    """Return how many are missing."""
    return len(store.missing(keys))


def lookup(store: LogpStore, keys: Sequence[bytes]) -> int:
    """Return how many are found whole."""
    return sum(len(logps) == TOKENS for logps in store.lookup(keys).values())


def measure(path: Path, count: int) -> dict[str, float]:
    """Return the seconds of everything that is done to all rows, by name."""
    keys, others = keys_of(b"stored", count), keys_of(b"not stored", count)
    seconds = {"commit, batches of 40": fill(path, keys)}
    random.Random(0).shuffle(keys)  # noqa: S311 (no secret)
    temperatures = ("cold", "warm") if hasattr(os, "posix_fadvise") else ("warm", "warm")
    cases: list[tuple[str, Sequence[bytes], int, Ask, int]] = [
        ("missing, not there, windows", others, WINDOW, missing, count),
        ("missing, not there, batches of 40", others, BATCH, missing, count),
        ("missing, all there, windows", keys, WINDOW, missing, 0),
        ("missing, all there, batches of 40", keys, BATCH, missing, 0),
        ("lookup, groups of 2,000", keys, GROUP, lookup, count),
    ]
    for name, asked, size, call, expected in cases:
        for temperature in temperatures:
            if temperature == "cold":
                forget(path)
            seconds[f"{name}, {temperature}"] = ask(path, asked, size, call, expected)
    return seconds


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=1_000_000)
    parser.add_argument("--gpu", type=float, default=20_000, help="tokens a second that a GPU scores")
    parser.add_argument("--cpu", type=float, default=3_000, help="tokens a second that a CPU scores")
    options = parser.parse_args()
    count = options.sequences
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "logps.sqlite"
        seconds = measure(path, count)
        size = path.stat().st_size
        opening = min(ask(path, (), 1, missing, 0) for _ in range(5))
    seconds["a first run: 3 × missing, commit, lookup"] = (
        2 * seconds["missing, not there, windows, warm"]
        + seconds["missing, not there, batches of 40, warm"]
        + seconds["commit, batches of 40"]
        + seconds["lookup, groups of 2,000, warm"]
    )
    print(f"{count:,} sequences of {TOKENS} tokens, {size / count:,.0f} bytes a row, SQLite {sqlite3.sqlite_version};")
    print(f"opened and closed in {opening * 1e3:.1f} ms.\n")
    print(f"| | rows/s | µs a row | of scoring at {options.gpu:,.0f} tokens/s | at {options.cpu:,.0f} tokens/s |")
    print("|---|---:|---:|---:|---:|")
    for name, taken in seconds.items():
        shares = " | ".join(f"{taken / (count * TOKENS / speed):.3%}" for speed in (options.gpu, options.cpu))
        print(f"| {name} | {count / taken:,.0f} | {taken / count * 1e6:.1f} | {shares} |")


if __name__ == "__main__":
    main()
