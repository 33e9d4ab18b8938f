"""Peak resident memory of `prefscope score` against the number of pairs, beside the bound that the run printed.

    python tests/benchmarks/memory.py [--pairs 20000 200000]

Method: the short pairs of sample_data are repeated to the wanted number, each copy under another `copy` column and with
its number in the prompt, so that no sequence occurs twice and every one goes through plan, store and ledger. The
bundled tiny models score the first batches, the longest ones among them; from then on zeros stand in for the forward
pass, which else would take hours. Reading, tokenizing, planning, the store, the ledger, the CSV and the summary are the
program's own. Every size runs in a process of its own with an empty store, whose peak resident memory the operating
system reports. The last figures are in README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefscope import sample_data

SHORT_CHARACTERS = 300
PROGRAM = """
import itertools, sys
import numpy as np
from prefscope.cli import main
from prefscope.pipeline.dispatch import local

compute, count = local.score_batch, itertools.count()

def score_batch(model, path, sequences, halved, *more):
    if next(count) < 24:
        return compute(model, path, sequences, halved, *more)
    return [np.zeros(sequence.num_scored, dtype=np.float32) for sequence in sequences]

local.score_batch = score_batch
main(sys.argv[1:])
"""
SIZES = {"MB": 1.0, "GB": 1000.0}
TOLD = re.compile(r"memory: ([\d,.]+) (MB|GB) of weights plus at most ([\d,.]+) (MB|GB) of working memory")


@dataclass(frozen=True)
class Measured:
    """What a run took, and what it said that it would take."""

    peak: float
    """Megabytes."""
    bound: float
    """Megabytes."""
    seconds: float


def short_pairs() -> list[dict[str, Any]]:
    """Return the bundled pairs whose row is short."""
    lines = (sample_data() / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row for row in rows if len(json.dumps(row["chosen"])) + len(json.dumps(row["rejected"])) < SHORT_CHARACTERS]


def write_repeated(path: Path, pairs: int) -> None:
    """Write so many pairs by repetition, each with a prompt of its own."""
    rows = short_pairs()
    with path.open("w", encoding="utf-8") as stream:
        for i in range(pairs):
            row, copy = rows[i % len(rows)], i // len(rows)
            *former, last = row["prompt"]
            prompt = [*former, {**last, "content": f"{copy}: {last['content']}"}]
            stream.write(json.dumps({**row, "prompt": prompt, "copy": copy}) + "\n")


def measure(path: Path, folder: Path) -> Measured:
    """Run once, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, "score", str(path), "--cache", str(folder / "cache")]
    outputs = ["-o", str(folder / "ledger.parquet"), "-o", str(folder / "table.csv")]
    started = time.perf_counter()
    process = subprocess.Popen([*command, *outputs], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    sizes = TOLD.search(told)
    if status != 0 or sizes is None:
        raise SystemExit(f"the run ended with status {status}:\n{told}")
    weights, weight_unit, others, other_unit = sizes.groups()
    bound = float(weights.replace(",", "")) * SIZES[weight_unit] + float(others.replace(",", "")) * SIZES[other_unit]
    return Measured(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6, bound, seconds)


def main() -> None:
    """Print a line for every size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, nargs="+", default=[20_000, 200_000])
    for size in parser.parse_args().pairs:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_repeated(folder / "data.jsonl", size)
            found = measure(folder / "data.jsonl", folder)
        print(
            f"{size:>9,} pairs  {found.peak:8.1f} MB peak  {found.bound:8.0f} MB printed as the bound  "
            f"{found.seconds:7.1f} s  {size / found.seconds:8.0f} pairs/s",
            flush=True,
        )


if __name__ == "__main__":
    main()
