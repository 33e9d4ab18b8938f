"""Peak resident memory of `prefscope score` against the number of pairs, with a warm log-prob store.

    python tests/benchmarks/memory.py [--pairs 20000 200000]

Method: the short pairs of sample_data are repeated to the wanted number, each copy under another `copy` column; one
small run warms the store, so that what is measured is reading, tokenizing, planning, writing the ledger, the CSV and
the summary. Every size runs in a process of its own, whose peak resident memory the operating system reports. The last
figures are in README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from prefscope import sample_data

SHORT_CHARACTERS = 300


def short_pairs() -> list[dict[str, object]]:
    """Return the bundled pairs whose row is short."""
    lines = (sample_data() / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if len(json.dumps(row["chosen"])) + len(json.dumps(row["rejected"])) < SHORT_CHARACTERS]


def write_repeated(path: Path, pairs: int) -> None:
    """Write so many pairs by repetition."""
    rows = short_pairs()
    with path.open("w", encoding="utf-8") as stream:
        for i in range(pairs):
            stream.write(json.dumps({**rows[i % len(rows)], "copy": i // len(rows)}) + "\n")


def measure(path: Path, folder: Path) -> tuple[float, float]:
    """Return peak resident megabytes and seconds of one run in a process of its own."""
    command = [sys.executable, "-m", "prefscope", "score", str(path), "--cache", str(folder / "cache")]
    outputs = ["-o", str(folder / "ledger.parquet"), "-o", str(folder / "table.csv")]
    started = time.perf_counter()
    process = subprocess.Popen([*command, *outputs], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"the run ended with status {status}")
    scale = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * scale / 1e6, time.perf_counter() - started


def main() -> None:
    """Print a line for every size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, nargs="+", default=[20_000, 200_000])
    sizes = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_repeated(folder / "warm.jsonl", len(short_pairs()))
        measure(folder / "warm.jsonl", folder)
        for size in sizes:
            write_repeated(folder / "data.jsonl", size)
            peak, seconds = measure(folder / "data.jsonl", folder)
            print(f"{size:>9,} pairs  {peak:8.1f} MB peak  {seconds:7.1f} s  {size / seconds:8.0f} pairs/s")


if __name__ == "__main__":
    main()
