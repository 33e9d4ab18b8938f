"""A run over several shards that is interrupted, or whose store is damaged, ends with the same results."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from prefscope.events import BatchScored, Event
from prefscope.folders import store_path
from prefscope.scoring.store import LogpStore
from prefscope.settings import ScoreSettings
from tests.functional.dispatch.shards import BY_PAIRS, PAIRS, cut_by_pairs
from tests.functional.runs import NATS_A_TOKEN, Outcome, committed, largest_difference, run, settings_of

pytestmark = pytest.mark.exhaustive

CHILD = """
import importlib, json, sys
from pathlib import Path
from prefscope.events import BatchScored
from prefscope.pipeline.run import score
from prefscope.settings import ScoreSettings

settings, limits = json.loads(sys.argv[1])
for module, name, value in limits:
    setattr(importlib.import_module(module), name, value)

def emit(event):
    if isinstance(event, BatchScored):
        print("BatchScored", flush=True)

def ledger(_):
    sys.stdin.read()  # the scoring is over: wait
    return Path("ledger.parquet")

score(ScoreSettings.from_json(settings), ledger, emit)
"""


class Interrupted(BaseException):
    """Raised like ctrl+C, but distinguishable from a real one."""


def stop_after(batches: int) -> Callable[[Event], None]:
    """Return a listener that interrupts the run after a number of committed batches."""
    seen = iter(range(1, batches))

    def listen(event: Event) -> None:
        if isinstance(event, BatchScored) and next(seen, None) is None:
            raise Interrupted

    return listen


def interrupt(settings: ScoreSettings, batches: int) -> None:
    with pytest.raises(Interrupted):
        run(settings, stop_after(batches))


def shards_in_store(folder: Path) -> list[int]:
    """Return the numbers of the shards whose plans are in the store."""
    with closing(sqlite3.connect(store_path(str(folder / "cache")))) as database:
        return [row[0] for row in database.execute("SELECT DISTINCT part FROM plans ORDER BY part")]


def assert_same_results(finished: Outcome, undisturbed: Outcome, before: int) -> None:
    """Fail if the ledger differs, or if a sequence was scored twice."""
    assert {plan.resumed for plan in finished.plans.values()} == {True}
    assert before + sum(batch.sequences for batch in finished.batches) == 4 * PAIRS
    assert finished.table.equals(undisturbed.table)
    without_time = [{**outcome.manifest, "created": ""} for outcome in (finished, undisturbed)]
    assert without_time[0] == without_time[1]
    assert shards_in_store(Path()) == []


def test_a_run_killed_in_a_later_shard_is_finished_identically_by_the_next(
    settings: ScoreSettings, undisturbed: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(module.__name__, name, value) for module, name, value in BY_PAIRS]
    command = [sys.executable, "-c", CHILD, json.dumps([settings.to_json(), limits])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(len(undisturbed.batches) // 2):
            assert child.stdout.readline() == "BatchScored\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert max(shards_in_store(Path())) >= 2
    before = committed()
    cut_by_pairs(monkeypatch)
    assert_same_results(run(settings), undisturbed, before)


@pytest.mark.usefixtures("shards_by_pairs")
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_run_interrupted_in_a_later_shard_is_finished_identically_by_the_next(
    share: float, settings: ScoreSettings, undisturbed: Outcome
) -> None:
    interrupt(settings, int(share * len(undisturbed.batches)))
    before = committed()
    assert_same_results(run(settings), undisturbed, before)


def assert_right(finished: Outcome, undisturbed: Outcome) -> None:
    """Fail if log-probs of the policy differ or are missing from the store, or if it still has a plan."""
    assert largest_difference(finished.token_logps("policy"), undisturbed.token_logps("policy")) < NATS_A_TOKEN
    with LogpStore(store_path("cache")) as store:
        assert store.counts() == (2 * PAIRS, 0)


def damage(statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(store_path("cache"))) as database:
        assert database.execute(statement, values).rowcount > 0
        database.commit()


WHOLE_NUMBER_LOST = "substr(batches, 1, length(batches) - 4)"
BYTE_LOST = "substr(batches, 1, length(batches) - 1)"


@pytest.mark.usefixtures("shards_by_pairs")
@pytest.mark.parametrize(
    "left",
    [
        pytest.param(WHOLE_NUMBER_LOST, id="a number lost"),
        pytest.param("X''", id="empty"),
        pytest.param(BYTE_LOST, id="a byte lost"),
        pytest.param("'text'", id="another type"),
        pytest.param("CAST(zeroblob(length(batches) - 4) || X'7fffffff' AS BLOB)", id="a number too large"),
    ],
)
def test_a_truncated_plan_is_recreated(left: str, policy_alone: ScoreSettings, undisturbed: Outcome) -> None:
    interrupt(policy_alone, len(undisturbed.batches) // 4)
    last = shards_in_store(Path())[-1]
    assert last >= 2
    damage(f"UPDATE plans SET batches = {left} WHERE part = ?", last)  # noqa: S608 (written here)
    finished = run(policy_alone)
    assert_right(finished, undisturbed)


@pytest.mark.usefixtures("shards_by_pairs")
def test_store_rows_deleted_after_planning_are_scored_again(policy_alone: ScoreSettings, undisturbed: Outcome) -> None:
    interrupt(policy_alone, len(undisturbed.batches) // 4)
    damage("DELETE FROM sequences WHERE id % 3 = 0")
    finished = run(policy_alone)
    assert_right(finished, undisturbed)


@pytest.mark.usefixtures("shards_by_pairs")
def test_store_rows_deleted_from_the_sample_are_scored_again_despite_its_plan(
    data: Path, policy_alone: ScoreSettings, undisturbed: Outcome
) -> None:
    """A row that existed when its part was planned has no batch in the plan."""
    run(settings_of(ref="none", data=data, limit=30))
    interrupt(policy_alone, 3)
    damage("DELETE FROM sequences WHERE id <= 60")
    finished = run(policy_alone)
    assert_right(finished, undisturbed)
