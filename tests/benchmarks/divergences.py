"""What --kl costs: time of a whole run without the store, and bytes a token in the ledger and in the store.

    python tests/benchmarks/divergences.py DATA --policy CHECKPOINT --ref CHECKPOINT [--limit 10]

Runs without and with divergences take turns, three of each; the seconds are those of the batches of both models, and
the fastest of each counts. A token is a scored token of a response.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from prefscope.events import Event, Finished
from prefscope.folders import store_path
from prefscope.ledger.columns import NUM_TOKENS
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings

TURNS = 3


def main() -> None:
    """Measure, and print a line for runs without and with divergences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("data")
    parser.add_argument("--policy", required=True)
    parser.add_argument("--ref", required=True)
    parser.add_argument("--limit", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    settings = ScoreSettings(DataSettings(asked.data, limit=asked.limit), ModelSettings(asked.policy, asked.ref))
    fastest = {False: float("inf"), True: float("inf")}
    for turn in range(TURNS):
        for kept in (False, True):
            with TemporaryDirectory() as folder:
                compute = ComputeSettings(cache_dir=folder, threads=asked.threads, divergences=kept)
                seconds: list[float] = []
                path = score(replace(settings, compute=compute), _into(folder), _listen(seconds))
                fastest[kept] = min(fastest[kept], *seconds)
                if turn == 0:
                    print(_sizes("with --kl" if kept else "without", path, folder))
    print(f"{fastest[False]:.1f} s without, {fastest[True]:.1f} s with: {fastest[True] / fastest[False] - 1:+.0%}")


def _into(folder: str) -> Callable[[str], Path]:
    return lambda _: Path(folder) / "ledger.parquet"


def _listen(seconds: list[float]) -> Callable[[Event], None]:
    return lambda event: seconds.append(event.scoring_seconds) if isinstance(event, Finished) else None


def _sizes(name: str, path: Path, folder: str) -> str:
    stored = load_ledger(path).stored
    tokens = sum(int(stored[one].sum()) for one in NUM_TOKENS)
    ledger, store = path.stat().st_size / tokens, store_path(folder).stat().st_size / tokens
    return f"{name:9}  ledger {ledger:5.1f} B/token  store {store:5.1f} B/token"


if __name__ == "__main__":
    main()
