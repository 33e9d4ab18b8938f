"""Pass hostile inputs to every boundary: python -m tests.campaigns.fuzz [--seed S] [--only NAME] [--share F].

Each input is refused with a sentence, or accepted with the values that it spells. Anything else is printed with what
repeats it, and the exit code is 1. Run in the root of the repository.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from tests.campaigns import fuzz_data, fuzz_ledgers, fuzz_models, fuzz_settings
from tests.campaigns.trials import Boundary, Tally, run_boundary

BOUNDARIES: list[Boundary] = [
    *fuzz_data.BOUNDARIES,
    *fuzz_ledgers.BOUNDARIES,
    *fuzz_settings.BOUNDARIES,
    *fuzz_models.BOUNDARIES,
]
SEED = 15


def campaign(seed: int, share: float, only: str = "", number: int | None = None) -> dict[str, Tally]:
    """Return the outcomes of a share of every boundary's inputs."""
    found = {}
    for boundary in BOUNDARIES:
        if only not in ("", boundary.name):
            continue
        numbers = range(max(1, round(boundary.inputs * share))) if number is None else range(number, number + 1)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            found[boundary.name] = tally = run_boundary(boundary, Path(folder), seed, numbers)
            _print(boundary.name, tally, time.perf_counter() - began)
    return found


def _print(name: str, tally: Tally, seconds: float) -> None:
    counts = ", ".join(f"{outcome}: {times:,}" for outcome, times in sorted(tally.outcomes.items()))
    sys.stdout.write(f"{name}: {tally.outcomes.total():,} inputs in {seconds:.0f} s; {counts}\n")
    for bug in tally.bugs:
        sys.stdout.write(f"  {bug}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the campaign in its own home folder; return 1 if there was a bug."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs of a whole campaign")
    parser.add_argument("--only", default="", choices=["", *(one.name for one in BOUNDARIES)])
    parser.add_argument("--number", type=int, help="one input alone")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        for name in ("CACHE", "CONFIG", "DATA", "STATE"):
            os.environ[f"XDG_{name}_HOME"] = str(Path(home) / name.lower())
        tallies = campaign(asked.seed, asked.share, asked.only, asked.number)
    total = sum(tally.outcomes.total() for tally in tallies.values())
    bugs = sum(len(tally.bugs) for tally in tallies.values())
    sys.stdout.write(f"{total:,} inputs, {bugs} bugs (seed {asked.seed})\n")
    return int(bugs > 0)


if __name__ == "__main__":
    sys.exit(main())
