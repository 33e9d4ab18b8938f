"""How long every pane takes to follow a new scope.

    python tests/benchmarks/scopes.py [--pairs 100000] [--rounds 5]

Method: two ledgers of random pairs with short texts are opened side by side, at 120 × 36, without a terminal. A time
goes from the change of the scope until the app has drawn the pane and is idle again, which includes up to 17 ms that
Textual waits between updates. Every filter follows the scope of all pairs; the median and the largest of all filters
and rounds, in milliseconds. The last figures are in README.md beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
from screens import write_pairs
from textual.pilot import Pilot

from prefscope.ledger.table import load_ledger
from prefscope.settings import PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from prefscope.tui.panes.pane import Pane

PANES = {"1": "overview", "2": "pairs", "4": "what-if", "5": "runs", "6": "health"}
FILTERS = ("margin < 0", "margin > -2", "len_c > len_r", "flag(truncated)", "margin < 1.5 and len_r > 100")


async def measure(session: Session, rounds: int) -> None:
    """Print the times of all panes."""
    async with PrefscopeApp(session).run_test(size=(120, 36)) as pilot:
        for key, name in PANES.items():
            await pilot.press(key)
            await pilot.pause()
            pane = pilot.app.screen.query_one(f"#{name}")
            assert isinstance(pane, Pane)
            times = [await follow(pilot, session, pane, one) for _ in range(rounds) for one in FILTERS]
            print(f"{name:<10} {np.median(times):5.0f} {max(times):5.0f}")


async def follow(pilot: Pilot[None], session: Session, pane: Pane, expression: str) -> float:
    """Return the milliseconds that a pane takes to follow a scope."""
    session.set_filter("")
    pane.show_session()
    await pilot.pause()
    start = time.perf_counter()
    session.set_filter(expression)
    pane.show_session()
    await pilot.pause()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.parquet" for name in "ab"]
        for path in paths:
            write_pairs(path, asked.pairs)
        first, second = map(load_ledger, paths)
        asyncio.run(measure(Session(first, PreferenceSettings(), [second]), asked.rounds))


if __name__ == "__main__":
    main()
