"""A batch is laid out while the one before it computes, and a GPU has it queued: nothing changes but the time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefscope.errors import ResourceError
from prefscope.pipeline.dispatch import local
from prefscope.pipeline.dispatch.local import BatchScorer
from prefscope.pipeline.shard_scorer import ShardScorer
from prefscope.scoring.engine import start_batch
from prefscope.scoring.forward_pass import Logps, Pending
from tests.functional.runs import Outcome, committed, run, settings_of

PAIRS, BATCH_TOKENS = 12, 512
QUEUES = pytest.mark.parametrize("queues", [False, True], ids=["a CPU", "a GPU"])


def score(monkeypatch: pytest.MonkeyPatch, *, queues: bool) -> Outcome:
    """Return a run on the CPU that hands out batches as on a CPU or a GPU."""
    monkeypatch.setattr(BatchScorer, "queues", property(lambda _: queues))
    return run(settings_of(limit=PAIRS, batch_tokens=BATCH_TOKENS))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("whole"))
        return score(patch, queues=False)


def test_a_gpu_gets_the_same_batches_in_the_same_order(whole: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    found = score(monkeypatch, queues=True)
    batches = [[(one.role, one.batch, one.sequences) for one in outcome.batches] for outcome in (whole, found)]
    assert batches[0] == batches[1]
    assert len(batches[0]) > 6
    assert found.table.equals(whole.table)


def record(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of what happens to batches, in order."""
    happened: list[str] = []
    commit: Callable[..., None] = ShardScorer._commit

    def start(*arguments: Any) -> Pending:
        number = sum(entry.startswith("start") for entry in happened)
        happened.append(f"start {number}")
        pending = start_batch(*arguments)

        def wait() -> Logps:
            happened.append(f"wait {number}")
            return pending()

        return wait

    def committing(scorer: ShardScorer, *arguments: Any) -> None:
        happened.append("commit")
        commit(scorer, *arguments)

    monkeypatch.setattr(local, "start_batch", start)
    monkeypatch.setattr(ShardScorer, "_commit", committing)
    return happened


def test_a_gpu_computes_the_next_batch_while_the_last_one_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = record(monkeypatch)
    score(monkeypatch, queues=True)
    assert happened[:8] == ["start 0", "start 1", "wait 0", "commit", "start 2", "wait 1", "commit", "start 3"]
    assert happened[-2:] == [f"wait {sum(entry.startswith('start') for entry in happened) - 1}", "commit"]


def test_a_cpu_loses_no_more_than_the_batch_that_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    happened = record(monkeypatch)
    score(monkeypatch, queues=False)
    assert happened[:6] == ["start 0", "wait 0", "commit", "start 1", "wait 1", "commit"]


def interrupting(number: int, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is interrupted at one of its calls."""
    calls = iter(range(1000))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return work(*arguments, **options)

    return interrupted


def pulled(turns: Iterator[Any], number: int) -> Iterator[Any]:
    for place, turn in enumerate(turns):
        if place == number:
            raise KeyboardInterrupt
        yield turn


def interrupt(patch: pytest.MonkeyPatch, point: str, number: int) -> None:
    """Interrupt the run at one of the points that a batch passes."""
    if point == "pulling a turn":
        turns: Callable[..., Iterator[Any]] = ShardScorer._turns
        patch.setattr(ShardScorer, "_turns", lambda *arguments: pulled(turns(*arguments), number))
        return
    owner, name = {
        "laying out": (local, "prepare"),
        "starting": (local, "start_batch"),
        "waiting": (BatchScorer, "_finish"),
        "committing": (ShardScorer, "_commit"),
    }[point]
    patch.setattr(owner, name, interrupting(number, getattr(owner, name)))


@pytest.mark.slow
@QUEUES
@pytest.mark.parametrize("number", [0, 1, 3])
@pytest.mark.parametrize("point", ["pulling a turn", "laying out", "starting", "waiting", "committing"])
def test_an_interrupted_run_keeps_what_was_committed_and_continues_to_the_same_numbers(
    whole: Outcome, monkeypatch: pytest.MonkeyPatch, point: str, number: int, queues: bool
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, point, number)
        with pytest.raises(KeyboardInterrupt):
            score(patch, queues=queues)
    assert [thread for thread in threading.enumerate() if "ThreadPool" in thread.name] == []
    kept = committed(Path("cache"))
    assert kept < sum(batch.sequences for batch in whole.batches)
    assert kept >= sum(batch.sequences for batch in whole.batches[: max(number - 2, 0)])
    found = score(monkeypatch, queues=queues)
    assert sum(batch.sequences for batch in found.batches) == sum(batch.sequences for batch in whole.batches) - kept
    assert found.table.equals(whole.table)


@QUEUES
def test_results_before_an_error_are_committed(whole: Outcome, monkeypatch: pytest.MonkeyPatch, queues: bool) -> None:
    def failing(*arguments: Any) -> Pending:
        failing_calls.append(None)
        if len(failing_calls) == 4:
            raise ResourceError("A sequence of 9 tokens does not fit into memory")
        return start_batch(*arguments)

    failing_calls: list[None] = []
    monkeypatch.setattr(local, "start_batch", failing)
    with pytest.raises(ResourceError):
        score(monkeypatch, queues=queues)
    assert committed(Path("cache")) == sum(batch.sequences for batch in whole.batches[:3])
