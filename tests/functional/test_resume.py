"""A killed run resumes where it stopped and ends with an identical ledger; nothing is scored twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.events import BatchScored, Event, Planned
from prefscope.folders import store_path
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.report.export import export
from prefscope.scoring.store import LogpStore
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, PreferenceSettings, ScoreSettings
from tests.functional.runs import committed

pytestmark = pytest.mark.slow

KILLS = 10
PAIRS = 60
LEDGER = "ledger.parquet"
CACHE = "cache"  # relative, so that the manifests of two folders are alike
RUN = """
import json, sys
from pathlib import Path
from prefscope.events import BatchScored, Planned
from prefscope.pipeline.run import score
from prefscope.settings import ScoreSettings

def emit(event):
    if isinstance(event, Planned | BatchScored):
        print(type(event).__name__, flush=True)

def ledger(_):
    sys.stdin.read()  # the scoring is over: wait
    return Path("ledger.parquet")

score(ScoreSettings.from_json(json.loads(sys.argv[1])), ledger, emit)
"""


@dataclass(frozen=True)
class Outcome:
    """The events and results of a finished run."""

    table: pa.Table
    """The columns of the ledger, without its manifest."""
    csv: bytes
    """The flat table."""
    manifest: dict[str, Any]
    """The manifest without its creation time."""
    committed: int
    """Sequences in the store."""
    plans: list[Planned]
    batches: list[BatchScored]


def outcome_of(folder: Path, events: Iterable[Event] = ()) -> Outcome:
    path, said = folder / LEDGER, list(events)
    ledger = load_ledger(path)
    export(ledger, PreferenceSettings(), folder / "table.csv", texts=True)
    return Outcome(
        table=pq.read_table(path).replace_schema_metadata(None),
        csv=(folder / "table.csv").read_bytes(),
        manifest={key: value for key, value in ledger.manifest.items() if key != "created"},
        committed=committed(folder / CACHE),
        plans=[event for event in said if isinstance(event, Planned)],
        batches=[event for event in said if isinstance(event, BatchScored)],
    )


def run_in(folder: Path, settings: ScoreSettings, monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """Score in a folder, in this process."""
    monkeypatch.chdir(folder)
    events: list[Event] = []
    score(settings, lambda _: folder / LEDGER, events.append)
    return outcome_of(folder, events)


def start_in(folder: Path, settings: ScoreSettings) -> subprocess.Popen[str]:
    """Return a process that scores in a folder, prints each batch, and waits before it writes the ledger."""
    command = [sys.executable, "-c", RUN, json.dumps(settings.to_json())]
    return subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read_lines(process: subprocess.Popen[str], lines: Iterable[str]) -> None:
    """Wait until the process has printed these lines."""
    assert process.stdout is not None
    for line in lines:
        assert process.stdout.readline() == f"{line}\n"


@pytest.fixture(scope="module")
def settings(samples: Path) -> ScoreSettings:
    """Return a run of about forty batches."""
    return ScoreSettings(
        data=DataSettings(str(samples / "pairs.jsonl"), limit=PAIRS),
        models=ModelSettings(str(samples / "tiny-policy"), str(samples / "tiny-ref")),
        compute=ComputeSettings(cache_dir=CACHE, batch_tokens=768, threads=1),
    )


@pytest.fixture(scope="module")
def undisturbed(settings: ScoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        return run_in(tmp_path_factory.mktemp("undisturbed"), settings, patch)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(1, KILLS))])
def test_a_run_killed_while_scoring_is_finished_identically_by_the_next(
    seed: int, settings: ScoreSettings, undisturbed: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)  # noqa: S311 (no secret)
    total = len(undisturbed.batches)
    assert total >= 20

    killed = start_in(tmp_path, settings)
    read_lines(killed, ["Planned", "Planned", *["BatchScored"] * chance.randrange(total)])
    time.sleep(chance.random() * 2 * sum(batch.seconds for batch in undisturbed.batches) / total)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    before = committed(tmp_path / CACHE)
    finished = run_in(tmp_path, settings, monkeypatch)

    assert [plan.resumed for plan in finished.plans] == [True, True]
    assert before + sum(batch.sequences for batch in finished.batches) == undisturbed.committed == finished.committed
    assert finished.table.equals(undisturbed.table)
    assert finished.csv == undisturbed.csv
    assert finished.manifest == undisturbed.manifest


@pytest.mark.exhaustive
def test_two_processes_with_the_same_run_end_with_the_same_ledger(
    settings: ScoreSettings, undisturbed: Outcome, tmp_path: Path
) -> None:
    processes = [start_in(tmp_path, settings) for _ in range(2)]
    for process in processes:
        process.communicate("")
        assert process.returncode == 0
    both = outcome_of(tmp_path)
    assert both.committed == undisturbed.committed
    assert both.csv == undisturbed.csv
    assert both.manifest == undisturbed.manifest


def test_a_sequence_that_occurs_twice_is_scored_once(
    settings: ScoreSettings, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (samples / "pairs.jsonl").read_text(encoding="utf-8").splitlines()[:4]
    (tmp_path / "twice.jsonl").write_text("\n".join(lines + lines[:2]), encoding="utf-8")
    twice = replace(settings, data=DataSettings(str(tmp_path / "twice.jsonl")))
    outcome = run_in(tmp_path, twice, monkeypatch)
    assert [(plan.pairs, plan.sequences, plan.missing) for plan in outcome.plans] == [(6, 8, 8), (6, 8, 8)]
    assert sum(batch.sequences for batch in outcome.batches) == 16
    columns = outcome.table.drop_columns(["row", "line"])
    assert columns.slice(0, 2).equals(columns.slice(4, 2))


def test_a_finished_run_leaves_no_plan(small: ScoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in(tmp_path, small, monkeypatch)
    with LogpStore(store_path(CACHE)) as store:
        assert store.counts()[1] == 0


@pytest.fixture(name="small")
def _small(settings: ScoreSettings) -> ScoreSettings:
    """Return a run of twenty pairs."""
    return replace(settings, data=replace(settings.data, limit=20))


def test_a_second_run_of_the_same_command_scores_nothing(
    small: ScoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (run_in(tmp_path, small, monkeypatch) for _ in range(2))
    assert second.batches == []
    assert [(plan.missing, plan.resumed) for plan in second.plans] == [(0, False)] * 2
    assert second.table.equals(first.table)


def test_a_second_policy_with_the_same_reference_scores_only_the_policy(
    small: ScoreSettings, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_in(tmp_path, small, monkeypatch)
    other = replace(small, models=replace(small.models, policy=str(samples / "tiny-base")))
    second = run_in(tmp_path, other, monkeypatch)
    assert {batch.role for batch in second.batches} == {"policy"}
    assert second.table["ref_chosen_token_logps"].equals(first.table["ref_chosen_token_logps"])
    assert not second.table["policy_chosen_token_logps"].equals(first.table["policy_chosen_token_logps"])


def test_exchanging_policy_and_reference_scores_nothing_new(
    small: ScoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_in(tmp_path, small, monkeypatch)
    models = replace(small.models, policy=str(small.models.ref), ref=small.models.policy)
    second = run_in(tmp_path, replace(small, models=models), monkeypatch)
    assert second.batches == []
    assert second.table["policy_rejected_token_logps"].equals(first.table["ref_rejected_token_logps"])


def test_a_grown_data_set_scores_only_the_new_sequences(
    small: ScoreSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_in(tmp_path, small, monkeypatch)
    grown = run_in(tmp_path, replace(small, data=replace(small.data, limit=24)), monkeypatch)
    new = [later.sequences - before.sequences for before, later in zip(first.plans, grown.plans, strict=True)]
    assert new == [8, 8]
    assert [plan.missing for plan in grown.plans] == new
    assert sum(batch.sequences for batch in grown.batches) == sum(new)
    assert grown.table.slice(0, 20).equals(first.table)
