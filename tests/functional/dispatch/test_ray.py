"""A Ray cluster gives the numbers of one process; whatever dies, nothing is lost and nobody is left behind.

These tests take about two minutes, and need the extra `ray`.
"""

from __future__ import annotations

import importlib.util
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
import torch

from prefscope.cli.app import run
from prefscope.events import BatchScored, Event, PairFlagged
from prefscope.folders import store_path
from prefscope.ledger.table import load_ledger
from prefscope.pipeline import passes, shards
from prefscope.pipeline.assembly import SIDES
from prefscope.pipeline.run import score
from prefscope.report.export import export
from prefscope.scoring.store import LogpStore
from prefscope.settings import DispatchSettings, PreferenceSettings
from tests.functional.dispatch.object_store import running_store
from tests.functional.dispatch.shards import write_distinct_pairs
from tests.functional.runs import run as run_here
from tests.functional.runs import settings_of

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed")
PAIRS = 40
FEWEST_TOKENS = 1 << 10  # so that some pairs make several shards
RUN = """
import sys
from prefscope.cli.app import main
from prefscope.pipeline import shards
shards.FEWEST_TOKENS = int(sys.argv[1])
main(sys.argv[2:])
"""
# What Python runs at its start: an actor of Ray meets its end at a response of so many tokens.
POISON = """
import os, sys
if any("default_worker" in argument for argument in sys.orig_argv):
    from prefscope.pipeline.dispatch import here
    score_batch = here.score_batch
    def poisoned(model, path, sequences, *more):
        if any(sequence.num_scored == {length} for sequence in sequences):
            {end}
        return score_batch(model, path, sequences, *more)
    here.score_batch = poisoned
"""
# The same: the first process that computes a part of an actor's model meets its end.
MORTAL = """
import os, sys
if any("rank_process" in argument for argument in sys.orig_argv):
    from pathlib import Path
    if b"ray::" in Path(f"/proc/{{os.getppid()}}/cmdline").read_bytes():
        from prefscope.scoring import engine
        forward = engine.forward
        def mortal(*given):
            try:
                Path({mark!r}).touch(exist_ok=False)
            except FileExistsError:
                return forward(*given)
            os.kill(os.getpid(), 9)
        engine.forward = mortal
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


def processes_named(*parts: bytes) -> list[int]:
    """Return the processes with one of these words in their command line."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if any(part in line.read_bytes() for part in parts):
                found.append(int(line.parent.name))
    return found


def of_ray() -> list[int]:
    return processes_named(b"ray::", b"raylet", b"gcs_server", b"ray_driver", b"ray/dashboard", b"ray/_private")


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


@needs_ray
def test_actors_write_the_parts_of_one_process_though_one_is_killed(data: Path, whole: bytes) -> None:
    killed: list[int] = []

    def kill_once(event: Event) -> None:
        if isinstance(event, BatchScored) and not killed:
            killed.append(processes_named(b"ray::MapWorker")[0])
            os.kill(killed[0], signal.SIGKILL)

    dispatch = DispatchSettings(workers=2, engine="ray", parts="parts")
    asked = replace(settings_of(data=data, limit=PAIRS, batch_tokens=256), dispatch=dispatch)
    before = of_ray()
    path = score(asked, lambda _: Path("all.parquet"), kill_once)
    export(load_ledger(path), PreferenceSettings(), Path("all.csv"))
    assert len(killed) == 1
    assert Path("all.csv").read_bytes() == whole
    assert [one for one in Path("parts").rglob("*") if one.name.startswith(".")] == []
    assert set(of_ray()) <= set(before)


@needs_ray
def test_actors_open_an_object_store_themselves(options: list[str], whole: bytes) -> None:
    with running_store() as store:
        url = store.url("ray")
        assert (
            run(["score", *options, "--no-cache", "--engine", "ray", "--workers", "2", "--parts", url, "-o", "ray.csv"])
            == 0
        )
        fetched = [one for one in store.requests if one.startswith("GET") and one.endswith("pairs.arrow")]
        assert len(fetched) > 1  # by the run, and by actors
        assert Path("ray.csv").read_bytes() == whole


@needs_ray
def test_a_run_that_is_killed_takes_ray_along_and_goes_on_when_it_is_run_again(
    options: list[str], whole: bytes
) -> None:
    command = [sys.executable, "-c", RUN, str(FEWEST_TOKENS), "score", *options, "--cache", "cache"]
    before = set(of_ray())

    def committed() -> int:
        with LogpStore(store_path("cache")) as store:
            return store.counts()[0]

    ray = ["--engine", "ray", "--workers", "2"]
    with subprocess.Popen([*command, *ray], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        wait_until(lambda: store_path("cache").is_file() and committed() > 4, seconds=90)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert process.stdout is not None
        assert process.stdout.read() == b""
    wait_until(lambda: set(of_ray()) <= before, seconds=20)
    assert 4 < committed() < 4 * PAIRS
    assert run(["score", *options, "--cache", "cache", "-o", "all.csv"]) == 0
    assert Path("all.csv").read_bytes() == whole


@needs_ray
@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), 9)", "__import__('time').sleep(600)"], ids=["it is killed", "it hangs"]
)
def test_a_pair_that_ends_every_actor_is_flagged_and_all_others_are_scored(
    end: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run_here(settings_of(ref="none", data=data, limit=12, cache="plain"))
    lengths = Counter(length for side in SIDES for length in plain.table[f"{side}_num_tokens"].to_pylist())
    chosen = plain.table["chosen_num_tokens"].to_pylist()
    row = next(row for row, length in enumerate(chosen) if lengths[length] == 1)
    (tmp_path / "sitecustomize.py").write_text(POISON.format(length=chosen[row], end=end), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(passes, "TRIES", 1)
    monkeypatch.setattr(passes, "TRIES_IN_PIECES", 1)
    asked = settings_of(ref="none", data=data, limit=12, batch_tokens=256)
    asked = replace(asked, dispatch=DispatchSettings(workers=1, engine="ray", patience=3.0))
    events: list[Event] = []
    score(asked, lambda _: Path("poisoned.parquet"), events.append)
    assert {event.row for event in events if isinstance(event, PairFlagged)} == {row}
    table = pq.read_table("poisoned.parquet")
    found = table["policy_chosen_logps"].to_pylist()
    assert [number for number, value in enumerate(found) if math.isnan(value)] == [row]
    assert not any(map(math.isnan, table["policy_rejected_logps"].to_pylist()))


@needs_ray
@pytest.mark.skipif(torch.cuda.device_count() == 1, reason="two processes need two GPUs, or none")
def test_an_actor_whose_model_is_split_gives_the_numbers_of_one_process_though_a_rank_is_killed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run_here(settings_of(ref="none", data=data, limit=12, batch_tokens=256, cache="plain"))
    (tmp_path / "sitecustomize.py").write_text(MORTAL.format(mark=str(tmp_path / "died")), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    asked = settings_of(ref="none", data=data, limit=12, batch_tokens=256, tp=2)
    asked = replace(asked, dispatch=DispatchSettings(workers=1, engine="ray"))
    score(asked, lambda _: Path("split.parquet"), lambda _: None)
    table = pq.read_table("split.parquet")
    for name in (f"policy_{side}_logps" for side in SIDES):
        assert table[name].to_pylist() == pytest.approx(plain.table[name].to_pylist(), abs=1e-3)
    assert (tmp_path / "died").exists()
    wait_until(lambda: processes_named(b"scoring.rank_process") == [], seconds=5)


@needs_ray
def test_a_node_that_is_lost_costs_no_pair(data: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes on this machine, each a raylet with a core; one is killed as soon as a batch has come back."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    before = set(of_ray())
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        node = cluster.add_node(num_cpus=1)
        lost: list[int] = []

        def lose_a_node(event: Event) -> None:
            if isinstance(event, BatchScored) and not lost:
                lost.append(node.all_processes["raylet"][0].process.pid)
                os.kill(lost[0], signal.SIGKILL)

        dispatch = DispatchSettings(workers=2, engine="ray", address=cluster.address, parts="parts")
        asked = replace(settings_of(data=data, limit=PAIRS, batch_tokens=256), dispatch=dispatch)
        path = score(asked, lambda _: Path("all.parquet"), lose_a_node)
    finally:
        cluster.shutdown()
    export(load_ledger(path), PreferenceSettings(), Path("all.csv"))
    assert len(lost) == 1
    assert Path("all.csv").read_bytes() == whole
    wait_until(lambda: set(of_ray()) <= before, seconds=20)


@needs_ray
def test_a_cluster_that_is_too_small_is_told_in_a_sentence(
    options: list[str], program: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = program("score", *options, "--no-cache", "--engine", "ray", "--gpus-per-worker", "64")
    assert (code, out) == (3, "")
    assert "1 workers need 1 and 64" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--address", "auto"], "are of Ray", id="address"),
        pytest.param(["--gpus-per-worker", "1"], "are of Ray", id="GPUs"),
        pytest.param(["--cpus-per-worker", "2"], "are of Ray", id="CPUs"),
    ],
)
def test_options_of_ray_without_ray_are_refused(
    arguments: list[str], told: str, program: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = program("score", "x.jsonl", *arguments)
    assert (code, out) == (2, "")
    assert told in err


def test_ray_that_is_not_installed_is_named_with_its_extra(
    options: list[str], program: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    code, out, err = program("score", *options, "--no-cache", "--engine", "ray")
    assert (code, out) == (2, "")
    assert "pip install 'prefscope[ray]'" in err
