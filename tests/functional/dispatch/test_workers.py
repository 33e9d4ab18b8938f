"""Several worker processes give the numbers of one; whatever dies, nothing is lost and nobody is left behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prefscope.cli.app import run
from prefscope.errors import ModelError, ResourceError
from prefscope.events import BatchScored, Event, Noted, PairFlagged
from prefscope.folders import store_path
from prefscope.ledger.table import load_ledger
from prefscope.pipeline import passes, shards
from prefscope.pipeline.assembly import SIDES
from prefscope.pipeline.dispatch import workers
from prefscope.pipeline.run import score
from prefscope.report.export import export
from prefscope.scoring.store import LogpStore
from prefscope.settings import DispatchSettings, PreferenceSettings, ScoreSettings
from tests.functional.dispatch.shards import write_distinct_pairs
from tests.functional.runs import run as run_here
from tests.functional.runs import settings_of

PAIRS = 40
FEWEST_TOKENS = 1 << 10  # so that some pairs make several shards
RUN = """
import signal, sys
from prefscope.cli.app import main
from prefscope.pipeline import shards
signal.signal(signal.SIGINT, signal.default_int_handler)
shards.FEWEST_TOKENS = int(sys.argv[1])
main(sys.argv[2:])
"""
# A worker that meets its end at a response of so many tokens.
POISONED = """
import os, signal, sys, time
from prefscope.pipeline.dispatch import here, worker_process
score_batch = here.score_batch

def poisoned(model, path, sequences, *more):
    if any(sequence.num_scored == {length} for sequence in sequences):
        {end}
    return score_batch(model, path, sequences, *more)

here.score_batch = poisoned
sys.exit(worker_process.main())
"""


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "FEWEST_TOKENS", FEWEST_TOKENS)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_distinct_pairs(tmp_path_factory.mktemp("data") / "pairs.jsonl")


@pytest.fixture(scope="module")
def options(data: Path) -> list[str]:
    settings = settings_of(data=data)
    models = ["--policy", settings.models.policy, "--ref", str(settings.models.ref)]
    return [str(data), *models, "--threads", "1", "--batch-tokens", "256", "--limit", str(PAIRS)]


@pytest.fixture(scope="module")
def whole(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the table of a run of one process."""
    table = tmp_path_factory.mktemp("whole") / "whole.csv"
    assert run(["score", *options, "--no-cache", "-o", str(table)]) == 0
    return table.read_bytes()


def start(options: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", RUN, str(FEWEST_TOKENS), "score", *options, "--cache", "cache", "--workers", "2"]
    return subprocess.Popen([*command, "-o", "all.csv"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def workers_of(starter: int) -> list[int]:
    """Return the worker processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
            command = (stat.parent / "cmdline").read_bytes()
            if parent == starter and b"worker_process" in command:
                found.append(int(stat.parent.name))
    return found


def is_alive(process: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


def committed() -> int:
    """Return how many sequences the store of a run has."""
    if not store_path("cache").is_file():
        return 0
    with LogpStore(store_path("cache")) as store:
        return store.counts()[0]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_workers_that_are_killed_are_replaced_and_the_table_is_that_of_one_process(data: Path, whole: bytes) -> None:
    crew: list[int] = []
    told: list[str] = []

    def kill_all_once(event: Event) -> None:
        told.extend([event.text] if isinstance(event, Noted) else [])
        if isinstance(event, BatchScored) and not crew:
            crew.extend(workers_of(os.getpid()))
            for worker in crew:
                os.kill(worker, signal.SIGKILL)

    asked = settings_of(data=data, limit=PAIRS, batch_tokens=256)
    path = score(replace(asked, dispatch=DispatchSettings(workers=2)), lambda _: Path("all.parquet"), kill_all_once)
    export(load_ledger(path), PreferenceSettings(), Path("all.csv"))
    assert Path("all.csv").read_bytes() == whole
    assert len(crew) == 2
    assert sorted(text for text in told if "died" in text) == [
        f"worker {number} has died (SIGKILL) and is started again" for number in range(2)
    ]
    assert committed() == 4 * PAIRS
    assert workers_of(os.getpid()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["killed", "ctrl+C"])
def test_a_run_that_ends_takes_its_workers_along_and_goes_on_when_it_is_run_again(
    number: signal.Signals, code: int, options: list[str], whole: bytes
) -> None:
    with start(options) as process:
        wait_until(lambda: committed() >= 4)
        crew = workers_of(process.pid)
        process.send_signal(number)
        assert process.wait() == code
    wait_until(lambda: not any(map(is_alive, crew)), seconds=5)
    assert len(crew) == 2
    assert 4 <= committed() < 4 * PAIRS
    assert run(["score", *options, "--cache", "cache", "-o", "all.csv"]) == 0
    assert Path("all.csv").read_bytes() == whole
    assert sorted(path.name for path in Path("cache").iterdir()) == ["logps.sqlite", "logps.sqlite.lock"]


def with_a_worker(data: Path, pairs: int) -> ScoreSettings:
    asked = settings_of(ref="none", data=data, limit=pairs, batch_tokens=256)
    return replace(asked, dispatch=DispatchSettings(workers=1, patience=2.0))


def poison(patch: pytest.MonkeyPatch, end: str, length: int | str) -> None:
    code = POISONED.format(length=length, end=end)
    patch.setattr(workers, "COMMAND", (sys.executable, "-c", code))


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGKILL)", "time.sleep(600)"], ids=["it is killed", "it hangs"]
)
def test_a_pair_that_ends_every_worker_is_flagged_and_all_others_are_scored(
    end: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shard, then its batch if that has others, then the sequence is tried, here once each: up to three die."""
    plain = run_here(settings_of(ref="none", data=data, limit=12, cache="plain"))
    lengths = Counter(length for side in SIDES for length in plain.table[f"{side}_num_tokens"].to_pylist())
    (row, length), *_ = [
        (row, length) for row, length in enumerate(plain.table["chosen_num_tokens"].to_pylist()) if lengths[length] == 1
    ]
    poison(monkeypatch, end, length)
    monkeypatch.setattr(passes, "TRIES", 1)
    monkeypatch.setattr(passes, "TRIES_IN_PIECES", 1)
    events: list[Event] = []
    score(with_a_worker(data, 12), lambda _: Path("poisoned.parquet"), events.append)

    flagged = {event.row: event.flags for event in events if isinstance(event, PairFlagged)}
    assert flagged.keys() == {row}
    assert {"non_finite", "crashed"} <= set(flagged[row])
    assert sum("has died" in event.text for event in events if isinstance(event, Noted)) in (2, 3)
    table = pq.read_table("poisoned.parquet")
    for name in (f"policy_{side}_logps" for side in SIDES):
        found, expected = table[name].to_pylist(), plain.table[name].to_pylist()
        assert math.isnan(found[row]) == ("chosen" in name)
        assert [value for i, value in enumerate(found) if i != row] == [
            pytest.approx(value, abs=1e-3) for i, value in enumerate(expected) if i != row
        ]


def test_workers_that_end_while_they_load_end_the_run(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", "raise SystemExit(5)"))
    with pytest.raises(ResourceError, match=r"end while they load the models \(exit code 5\)") as told:
        score(with_a_worker(data, 4), lambda _: Path("ledger.parquet"), lambda _: None)
    assert told.value.exit_code == 3


def test_what_a_user_can_mend_is_told_by_the_worker_in_its_own_words(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = 'raise __import__("prefscope.errors").errors.ModelError("It is broken", where="here", hint="Mend it.")'
    poison(monkeypatch, error, "sequence.num_scored")
    with pytest.raises(ModelError, match=r"^here: it is broken\. Mend it\.$"):
        score(with_a_worker(data, 4), lambda _: Path("ledger.parquet"), lambda _: None)
