"""Kill a run at a hundred moments: python -m tests.campaigns.kills [KILLS [WAY]].

Each killed run is repeated undisturbed in a folder with what the killed one left: its ledger and table have to be
those of a run that nobody disturbed, byte for byte. The clock stands still: a ledger holds the time of its making.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import torch

from prefscope.cli.app import run
from prefscope.folders import sample_data
from prefscope.pipeline import manifest, model_pool
from prefscope.scoring.probe import Budget

KILLS = 100
PAIRS = 12
SEED = 15
WAYS = ("one process", "parts")
_FORK = multiprocessing.get_context("fork")
_LONGEST_SECONDS = 120
DONE = "done before it was killed"
_LEFTOVERS = (".part", ".writing")


class _StillClock(dt.datetime):
    """A clock that always shows the same time."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> _StillClock:
        return cls(2026, 1, 31, tzinfo=tz)


def command(way: str, folder: Path) -> list[str]:
    """Return the command line that scores the first bundled pairs into a folder."""
    data = ["score", str(sample_data() / "pairs.jsonl"), "--limit", str(PAIRS), "--batch-tokens", "256"]
    outputs = ["-o", str(folder / "out.parquet"), "-o", str(folder / "out.csv"), "--cache", str(folder / "cache")]
    return [*data, *outputs, *(["--parts", str(folder / "parts")] if way == "parts" else [])]


def preload(arguments: list[str]) -> None:
    """Import what a command line imports before any fork, so that runs are killed while they work."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = _FORK.Process(target=_score, args=(arguments, sender))
    child.start()
    for name in receiver.recv():
        with contextlib.suppress(Exception):  # some modules belong to that process alone
            importlib.import_module(name)
    child.join()


def _score(arguments: list[str], sender: Connection | None = None, prepare: Callable[[], object] | None = None) -> None:
    """Run a command line without output or speed probe, which would be most of such a short run."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    if prepare is not None:
        prepare()
    torch.set_num_threads(1)
    manifest.dt = SimpleNamespace(datetime=_StillClock, UTC=dt.UTC)  # type: ignore[assignment, attr-defined]
    model_pool.probe = lambda *_, **__: Budget(256, 1000.0)  # type: ignore[attr-defined]
    code = run(arguments)
    if sender is not None:
        sender.send([*sys.modules])
    os._exit(code)


def start(
    arguments: list[str], kill_after: float | None = None, prepare: Callable[[], object] | None = None
) -> int | None:
    """Run a command line in a separate process and return its exit code.

    Args:
        arguments: The command line.
        kill_after: Kill it after so many seconds.
        prepare: What that process does first.
    """
    child = _FORK.Process(target=_score, args=(arguments, None, prepare))
    child.start()
    child.join(_LONGEST_SECONDS if kill_after is None else kill_after)
    if child.is_alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid or 0, signal.SIGKILL)
        child.join()
    return child.exitcode


def results(folder: Path) -> tuple[bytes, bytes]:
    """Return the ledger and the table."""
    return (folder / "out.parquet").read_bytes(), (folder / "out.csv").read_bytes()


def leftovers(folder: Path) -> list[str]:
    """Return the leftover files of unfinished writes."""
    return [path.name for path in folder.rglob("*") if path.name.endswith(_LEFTOVERS)]


def outcome(way: str, folder: Path, expected: tuple[bytes, bytes], seconds: float) -> str:
    """Return the outcomes of a run that was killed after some seconds, and of its repetition."""
    shutil.rmtree(folder)
    folder.mkdir()
    killed = start(command(way, folder), seconds)
    code = start(command(way, folder))
    if code != 0:
        return f"BUG: the repeated run ends with {code}"
    if results(folder) != expected:
        return "BUG: the repeated run gives something else"
    if found := leftovers(folder):
        return f"BUG: {found[0]} is left"
    return "killed, then as undisturbed" if killed == -signal.SIGKILL else DONE


def campaign(kills: int, folder: Path, ways: tuple[str, ...] = WAYS) -> Counter[str]:
    """Return the outcomes of a number of killed runs, at moments spread over the duration of an undisturbed run."""
    draw, found = random.Random(SEED), Counter[str]()  # noqa: S311 (no secret)
    for way in ways:
        folder.mkdir(exist_ok=True)
        preload(command(way, folder))
        shutil.rmtree(folder)
        folder.mkdir()
        began = time.perf_counter()
        if start(command(way, folder)) != 0:
            found[f"{way}: BUG: an undisturbed run fails"] += 1
            continue
        life, expected = time.perf_counter() - began, results(folder)
        share = kills // len(ways)
        for number in range(share):
            seconds, name = life * (number + draw.random()) / share, DONE
            while name == DONE:  # a machine with other work is faster now and slower then
                name = outcome(way, folder, expected, seconds)
                found[f"{way}: {name}"] += 1
                seconds *= 0.8
    return found


def main() -> int:
    """Print the number of each outcome; return 1 if a repeated run did not give the same bytes."""
    with tempfile.TemporaryDirectory() as top:
        kills = int(sys.argv[1]) if len(sys.argv) > 1 else KILLS
        found = campaign(kills, Path(top) / "run", tuple(sys.argv[2:]) or WAYS)
    for name, times in sorted(found.items()):
        sys.stdout.write(f"{name}: {times}\n")
    return int(any("BUG" in name for name in found))


if __name__ == "__main__":
    sys.exit(main())
