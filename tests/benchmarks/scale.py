"""One process against two workers, two slices and a Ray cluster of two actors, on the same work.

    python tests/benchmarks/scale.py DATA --policy P --ref R [--limit N] [--ray]

Method: the program itself, end to end, each way in a process of its own with one thread a worker and without a store;
slices run side by side in folders that were planned before. The CSVs have to be the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = (sys.executable, "-m", "prefscope")


def start(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def timed(*commands: list[str]) -> float:
    """Return the seconds that some command lines take side by side."""
    started = time.perf_counter()
    for process in [start(*command) for command in commands]:
        if process.wait():
            raise SystemExit(f"exit code {process.returncode}")
    return time.perf_counter() - started


def report(name: str, seconds: float, table: Path) -> None:
    print(f"| {name} | {seconds:.1f} | {hashlib.sha256(table.read_bytes()).hexdigest()[:12]} |", flush=True)


def main() -> None:
    """Print a table, a line for each way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--policy", required=True)
    parser.add_argument("--ref", required=True)
    parser.add_argument("--limit", default="100000")
    parser.add_argument("--ray", action="store_true")
    asked = parser.parse_args()
    chosen = [asked.data, "--policy", asked.policy, "--ref", asked.ref, "--limit", asked.limit]
    common = ["score", *chosen, "--threads", "1", "--no-cache"]
    print("| way | seconds | CSV |\n|---|---:|---|")
    with tempfile.TemporaryDirectory() as folder:
        table, parts, ledger = Path(folder) / "t.csv", f"{folder}/parts", f"{folder}/l.parquet"
        report("one process", timed([*common, "-o", str(table)]), table)
        report("--workers 2", timed([*common, "--workers", "2", "-o", str(table)]), table)
        planning = timed(["parts", "plan", parts, *chosen])
        slices = [[*common, "--parts", parts, "--slice", f"{number}/2"] for number in range(2)]
        scoring = timed(*slices)
        merging = timed(["parts", "merge", parts, "-o", ledger])
        timed(["export", ledger, "-o", str(table)])
        report(f"plan {planning:.1f}, 2 slices {scoring:.1f}, merge {merging:.1f}", planning + scoring + merging, table)
        if asked.ray:
            seconds = timed([*common, "--engine", "ray", "--workers", "2", "-o", str(table)])
            report("--engine ray, 2 workers", seconds, table)


if __name__ == "__main__":
    main()
