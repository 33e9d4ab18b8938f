"""Several worker processes give the numbers of one; whatever dies, nothing is lost and no process is left behind."""

from __future__ import annotations

import math
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from prefscope.errors import ModelError, ResourceError
from prefscope.events import BatchScored, Event, Noted, PairFlagged
from prefscope.pipeline.dispatch import workers
from prefscope.pipeline.logp_source import SIDES
from prefscope.pipeline.run import score
from prefscope.settings import DispatchSettings, ScoreSettings
from tests.functional.dispatch.processes import POISON, either_end, find_unique_length, finds_processes, wait_until
from tests.functional.dispatch.shards import BATCH_TOKENS, LIMIT, OPTIONS, call, start, table_of
from tests.functional.runs import committed, run, settings_of

pytestmark = [pytest.mark.exhaustive, pytest.mark.usefixtures("shards_by_tokens")]
WORKER = """
import sys
from prefscope.pipeline.dispatch import worker_process
sys.exit(worker_process.main())
"""


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


@finds_processes
def test_killed_workers_are_replaced_and_the_table_equals_that_of_one_process(data: Path, whole: bytes) -> None:
    crew: list[int] = []
    told: list[str] = []

    def kill_all_once(event: Event) -> None:
        told.extend([event.text] if isinstance(event, Noted) else [])
        if isinstance(event, BatchScored) and not crew:
            crew.extend(workers_of(os.getpid()))
            for worker in crew:
                os.kill(worker, signal.SIGKILL)

    asked = settings_of(data=data, limit=LIMIT, batch_tokens=BATCH_TOKENS)
    path = score(replace(asked, dispatch=DispatchSettings(workers=2)), lambda _: Path("all.parquet"), kill_all_once)
    assert table_of(path) == whole
    assert len(crew) == 2
    assert sorted(text for text in told if "died" in text) == [
        f"worker {number} died (SIGKILL) and is being restarted" for number in range(2)
    ]
    assert committed() == 4 * LIMIT
    assert workers_of(os.getpid()) == []


@finds_processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)], ids=["killed", "ctrl+C"])
def test_a_killed_run_ends_its_workers_and_resumes_when_run_again(
    number: signal.Signals, code: int, data: Path, whole: bytes
) -> None:
    command = ["score", str(data), *OPTIONS, "--cache", "cache", "-o", "all.csv"]
    with start(*command, "--workers", "2") as process:
        wait_until(lambda: committed() >= 4, seconds=60)
        crew = workers_of(process.pid)
        process.send_signal(number)
        assert process.wait() == code
    wait_until(lambda: not any(map(is_alive, crew)), seconds=5)
    assert len(crew) == 2
    assert 4 <= committed() < 4 * LIMIT
    assert call(*command) == 0
    assert Path("all.csv").read_bytes() == whole
    assert sorted(path.name for path in Path("cache").iterdir()) == ["logps.sqlite", "logps.sqlite.lock"]


def with_a_worker(data: Path, pairs: int) -> ScoreSettings:
    asked = settings_of(ref="none", data=data, limit=pairs, batch_tokens=BATCH_TOKENS)
    return replace(asked, dispatch=DispatchSettings(workers=1, patience=2.0))


def poison(patch: pytest.MonkeyPatch, end: str, length: int | str) -> None:
    patch.setattr(workers, "COMMAND", (sys.executable, "-c", POISON.format(length=length, end=end) + WORKER))


@either_end
@pytest.mark.usefixtures("single_tries")
def test_a_pair_that_crashes_every_worker_is_flagged_and_the_rest_are_scored(
    end: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its shard, then its batch if there are others in it, then the sequence is tried, once each: up to three die."""
    plain = run(settings_of(ref="none", data=data, limit=12, cache="plain"))
    row, length = find_unique_length(plain)
    poison(monkeypatch, end, length)
    events: list[Event] = []
    score(with_a_worker(data, 12), lambda _: Path("poisoned.parquet"), events.append)

    flagged = {event.row: event.flags for event in events if isinstance(event, PairFlagged)}
    assert flagged.keys() == {row}
    assert {"non_finite", "crashed"} <= set(flagged[row])
    assert sum("is being restarted" in event.text for event in events if isinstance(event, Noted)) in (2, 3)
    table = pq.read_table("poisoned.parquet")
    for name in (f"policy_{side}_logps" for side in SIDES):
        found, expected = table[name].to_pylist(), plain.table[name].to_pylist()
        assert math.isnan(found[row]) == ("chosen" in name)
        assert [value for i, value in enumerate(found) if i != row] == [
            pytest.approx(value, abs=1e-3) for i, value in enumerate(expected) if i != row
        ]


def test_workers_that_die_while_loading_end_the_run(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", "raise SystemExit(5)"))
    with pytest.raises(ResourceError, match=r"die while they load the models \(exit code 5\)") as told:
        score(with_a_worker(data, 4), lambda _: Path("ledger.parquet"), lambda _: None)
    assert told.value.exit_code == 3


def test_user_errors_in_a_worker_are_reported_with_its_message(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = 'raise __import__("prefscope.errors").errors.ModelError("It is broken", where="here", hint="Mend it.")'
    poison(monkeypatch, error, "sequence.num_scored")
    with pytest.raises(ModelError, match=r"^here: it is broken\. Mend it\.$"):
        score(with_a_worker(data, 4), lambda _: Path("ledger.parquet"), lambda _: None)
