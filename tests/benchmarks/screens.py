"""How long the screens take: to be there, to answer a key, to follow a knob; and how much memory they hold.

    python tests/benchmarks/screens.py [--pairs 100000 1000000] [--keys 40]

Method: the program itself runs under a pseudo-terminal of 120 × 36. Times count from the start of the process. Painted:
the tabs have been written; numbers: the word "accuracy" has. A key's times go from the write of the key to the first
byte that the program then writes (paint) and to the last one (settled: the preview has followed, too), bursts more than
60 ms apart not counted together; the median and the 95th percentile of all keys of a kind, and the processor time that
a key took on average. Ledgers of random pairs with short texts and no tokens are made first. While a worker scores, the
bundled pairs are scored with the bundled models from an empty store, over and over, on the same cores.
The last figures are in README.md beside this file.
"""

from __future__ import annotations

import argparse
import fcntl
import math
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from prefscope.folders import sample_data
from prefscope.ledger.file import build_schema, write_ledger

QUIET = 0.06
GROUP = 500
SETTLE = 1.5
COPIES = 40
PAGE_DOWN = b"\x1b[6~"


class Screens:
    """The program on a terminal of its own."""

    def __init__(self, *arguments: str, home: Path) -> None:
        self._terminal, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
        folders = {name: str(home) for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
        environment = os.environ | folders | {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        self._started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "prefscope", *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            env=environment,
            start_new_session=True,
        )
        os.close(side)
        self._written = b""

    def wait_for(self, text: bytes, seconds: float = 120) -> float:
        """Return the seconds from the start until a text was written."""
        while text not in self._written:
            if time.perf_counter() - self._started > seconds:
                raise TimeoutError(text)
            self._read(0.01)
        return time.perf_counter() - self._started

    def _read(self, seconds: float) -> bool:
        if not select.select([self._terminal], [], [], seconds)[0]:
            return False
        self._written = self._written[-100_000:] + os.read(self._terminal, 1 << 16)
        return True

    def settle(self) -> None:
        """Read until nothing more comes."""
        end = time.perf_counter() + SETTLE
        while time.perf_counter() < end:
            self._read(0.05)

    def write(self, key: bytes) -> None:
        """Press a key without waiting for what it brings about."""
        os.write(self._terminal, key)

    def press(self, key: bytes) -> tuple[float, float]:
        """Return the milliseconds from a key to the first and to the last byte of what it brought about."""
        start = time.perf_counter()
        times: list[float] = []
        self.write(key)
        while self._read(QUIET if times else 2.0):
            times.append(1000 * (time.perf_counter() - start))
        return (times[0], times[-1]) if times else (math.nan, math.nan)

    def processor(self) -> float:
        """Return the milliseconds of processor time that the program has taken so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def most_memory(self) -> float:
        """Return the peak of resident memory in MB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        with suppress(OSError):
            while self._process.poll() is None:
                self._read(0.05)
        self._process.wait()
        os.close(self._terminal)


@contextmanager
def screens(*arguments: str, home: Path) -> Iterator[Screens]:
    """Give the running program."""
    found = Screens(*arguments, home=home)
    try:
        yield found
    finally:
        found.close()


def write_pairs(path: Path, pairs: int) -> None:
    """Write a ledger of random pairs."""
    generator = np.random.default_rng(0)

    def groups() -> Iterator[dict[str, Any]]:
        for start in range(0, pairs, GROUP):
            rows = range(start, min(start + GROUP, pairs))
            policy = generator.normal(-200, 50, (2, len(rows)))
            moved = generator.normal(1, 8, (2, len(rows)))
            counts = generator.integers(5, 400, (2, len(rows)))
            yield {
                "row": [*rows],
                "pair_id": [f"{number:016x}" for number in generator.integers(2**62, size=len(rows))],
                "line": [row + 1 for row in rows],
                "policy_chosen_logps": policy[0],
                "policy_rejected_logps": policy[1],
                "ref_chosen_logps": policy[0] - moved[0],
                "ref_rejected_logps": policy[1] + moved[1],
                "chosen_num_tokens": counts[0],
                "rejected_num_tokens": counts[1],
                "flags": ["truncated" if row % 17 == 0 else "" for row in rows],
                "prompt": [f"prompt number {row} about things" for row in rows],
                "chosen": ["a chosen response"] * len(rows),
                "rejected": ["a rejected response"] * len(rows),
                "source_json": ["{}"] * len(rows),
            }

    manifest = {"has_reference": True, "models": {}, "data": {"source": "random"}}
    write_ledger(path, build_schema({}, manifest, tokens=False), groups())


def measure(shown: Screens, name: str, key: bytes, times: int) -> None:
    """Print how long a key takes to be answered."""
    before = shown.processor()
    paints, settled = zip(*(shown.press(key) for _ in range(times)), strict=True)
    own = (shown.processor() - before) / times
    print(f"  {name:<20} {spread(paints)}   {spread(settled)}   {own:6.0f}")


def spread(times: Sequence[float]) -> str:
    """Return the median and the 95th percentile of some milliseconds."""
    return f"{np.nanmedian(times):6.0f} {np.nanpercentile(times, 95):6.0f}"


def measure_keys(shown: Screens, keys: int) -> None:
    """Print how long keys take on the table, on a sorted one, on What-if, and on a pair."""
    print(f"  {'milliseconds':<20} {'paint':>6} {'p95':>6}   {'settl.':>6} {'p95':>6}   {'cpu':>6}")
    shown.press(b"2")
    shown.settle()
    measure(shown, "down", b"j", keys)
    measure(shown, "page down", PAGE_DOWN, keys)
    for key in (b">", b">", b">", b">", b"s"):
        shown.press(key)
    shown.settle()
    measure(shown, "page down, sorted", PAGE_DOWN, keys)
    shown.press(b"4")
    shown.settle()
    measure(shown, "knob on What-if", b"]", keys)
    shown.press(b"3")
    shown.settle()
    measure(shown, "next pair", b"J", keys)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--keys", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for _ in range(3):
            with screens("demo", home=home) as shown:
                painted, numbers = shown.wait_for(b"Overview"), shown.wait_for(b"accuracy")
                print(f"demo: painted {painted:.2f} s, numbers {numbers:.2f} s")
        for pairs in asked.pairs:
            path = home / f"{pairs}.parquet"
            write_pairs(path, pairs)
            with screens("view", str(path), home=home) as shown:
                painted, numbers = shown.wait_for(b"Overview"), shown.wait_for(b"accuracy")
                print(f"{pairs:,} pairs: painted {painted:.2f} s, numbers {numbers:.2f} s")
                shown.settle()
                measure_keys(shown, asked.keys)
                print(f"  most memory {shown.most_memory():.0f} MB")
        print("while a worker scores")
        measure_beside_a_worker(home, asked.keys)


def measure_beside_a_worker(home: Path, keys: int) -> None:
    """Print how long keys take while the bundled pairs, many times over, are scored."""
    data = home / "many.jsonl"
    rows = (sample_data() / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    data.write_text(
        "".join(row.replace(" the ", f" the {i} ") + "\n" for i in range(40) for row in rows), encoding="utf-8"
    )
    with screens("open", str(data), home=home) as shown:
        shown.wait_for(b"Score")
        shown.settle()
        for _ in range(7):
            shown.press(b"\t")
        shown.write(b"\r")
        shown.wait_for(b"tok/s")
        measure_keys(shown, keys)


if __name__ == "__main__":
    main()
