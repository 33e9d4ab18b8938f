"""A Ray cluster gives the numbers of one process; whatever dies, nothing is lost and no process is left behind.

These tests take some minutes, and need the extra `ray`.
"""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from textwrap import indent

import pyarrow.parquet as pq
import pytest

from prefscope.events import BatchScored, Event, PairFlagged
from prefscope.pipeline.logp_source import SIDES
from prefscope.pipeline.run import score
from prefscope.settings import DispatchSettings
from tests.functional.dispatch.object_store import Store
from tests.functional.dispatch.processes import (
    POISON,
    either_end,
    find_unique_length,
    processes_named,
    ranks,
    splits_in_two,
    wait_until,
)
from tests.functional.dispatch.shards import BATCH_TOKENS, LIMIT, OPTIONS, Program, call, leftovers, start, table_of
from tests.functional.runs import committed, run, settings_of

pytestmark = [pytest.mark.exhaustive, pytest.mark.usefixtures("shards_by_tokens")]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not installed")
# What Python runs at its start: what is put below it, if it is an actor of Ray.
IN_ACTORS = """
import sys
if any("default_worker" in argument for argument in sys.orig_argv):
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


def of_ray() -> list[int]:
    return processes_named(b"ray::", b"raylet", b"gcs_server", b"ray_driver", b"ray/dashboard", b"ray/_private")


def run_at_start(code: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Make every Python process that is started from now on run this first."""
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


@needs_ray
def test_actors_write_the_same_parts_as_one_process_even_if_one_is_killed(data: Path, whole: bytes) -> None:
    killed: list[int] = []

    def kill_once(event: Event) -> None:
        if isinstance(event, BatchScored) and not killed:
            killed.append(processes_named(b"ray::MapWorker")[0])
            os.kill(killed[0], signal.SIGKILL)

    dispatch = DispatchSettings(workers=2, engine="ray", parts="parts")
    asked = replace(settings_of(data=data, limit=LIMIT, batch_tokens=BATCH_TOKENS), dispatch=dispatch)
    before = of_ray()
    path = score(asked, lambda _: Path("all.parquet"), kill_once)
    assert len(killed) == 1
    assert table_of(path) == whole
    assert leftovers(Path("parts")) == []
    assert set(of_ray()) <= set(before)


@needs_ray
def test_actors_open_the_object_store_themselves(store: Store, data: Path, whole: bytes) -> None:
    ray = ["--engine", "ray", "--workers", "2", "--parts", store.url("ray")]
    assert call("score", data, *OPTIONS, "--no-cache", *ray, "-o", "ray.csv") == 0
    fetched = [one for one in store.requests if one.startswith("GET") and one.endswith("pairs.arrow")]
    assert len(fetched) > 1  # by the run, and by actors
    assert Path("ray.csv").read_bytes() == whole


@needs_ray
def test_actors_do_not_import_python_files_of_the_working_folder(data: Path) -> None:
    hostile = "open('has_run', 'a').close()\nraise ImportError"
    for module in ("torch", "numpy", "pandas", "pickle"):
        Path(f"{module}.py").write_text(hostile, encoding="utf-8")
    assert call("score", data, "--limit", "4", "--cache", "cache", "--engine", "ray", "--workers", "1") == 0
    assert not Path("has_run").exists()


@needs_ray
def test_a_killed_run_stops_ray_and_resumes_when_run_again(data: Path, whole: bytes) -> None:
    command = ["score", str(data), *OPTIONS, "--cache", "cache"]
    before = set(of_ray())
    with start(*command, "--engine", "ray", "--workers", "2", stdout=subprocess.PIPE) as process:
        wait_until(lambda: committed() > 4, seconds=90)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert process.stdout is not None
        assert process.stdout.read() == b""
    wait_until(lambda: set(of_ray()) <= before, seconds=20)
    assert 4 < committed() < 4 * LIMIT
    assert call(*command, "-o", "all.csv") == 0
    assert Path("all.csv").read_bytes() == whole


@needs_ray
@either_end
@pytest.mark.usefixtures("single_tries")
def test_a_pair_that_crashes_every_actor_is_flagged_and_the_rest_are_scored(
    end: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(settings_of(ref="none", data=data, limit=12, cache="plain"))
    row, length = find_unique_length(plain)
    run_at_start(IN_ACTORS + indent(POISON.format(length=length, end=end), "    "), tmp_path, monkeypatch)
    asked = settings_of(ref="none", data=data, limit=12, batch_tokens=BATCH_TOKENS)
    asked = replace(asked, dispatch=DispatchSettings(workers=1, engine="ray", patience=3.0))
    events: list[Event] = []
    score(asked, lambda _: Path("poisoned.parquet"), events.append)
    assert {event.row for event in events if isinstance(event, PairFlagged)} == {row}
    table = pq.read_table("poisoned.parquet")
    found = table["policy_chosen_logps"].to_pylist()
    assert [number for number, value in enumerate(found) if math.isnan(value)] == [row]
    assert not any(map(math.isnan, table["policy_rejected_logps"].to_pylist()))


@needs_ray
@splits_in_two
def test_an_actor_with_a_split_model_gives_the_numbers_of_one_process_even_if_a_rank_is_killed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(settings_of(ref="none", data=data, limit=12, batch_tokens=BATCH_TOKENS, cache="plain"))
    run_at_start(MORTAL.format(mark=str(tmp_path / "died")), tmp_path, monkeypatch)
    asked = settings_of(ref="none", data=data, limit=12, batch_tokens=BATCH_TOKENS, tp=2)
    asked = replace(asked, dispatch=DispatchSettings(workers=1, engine="ray"))
    score(asked, lambda _: Path("split.parquet"), lambda _: None)
    table = pq.read_table("split.parquet")
    for name in (f"policy_{side}_logps" for side in SIDES):
        assert table[name].to_pylist() == pytest.approx(plain.table[name].to_pylist(), abs=1e-3)
    assert (tmp_path / "died").exists()
    wait_until(lambda: ranks() == [], seconds=5)


@needs_ray
def test_losing_a_node_loses_no_pair(data: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
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
        asked = replace(settings_of(data=data, limit=LIMIT, batch_tokens=BATCH_TOKENS), dispatch=dispatch)
        path = score(asked, lambda _: Path("all.parquet"), lose_a_node)
    finally:
        cluster.shutdown()
    assert len(lost) == 1
    assert table_of(path) == whole
    wait_until(lambda: set(of_ray()) <= before, seconds=20)


@needs_ray
def test_a_cluster_that_is_too_small_is_reported(data: Path, program: Program) -> None:
    code, out, err = program("score", data, *OPTIONS, "--no-cache", "--engine", "ray", "--gpus-per-worker", "64")
    assert (code, out) == (3, "")
    assert "1 workers need 1 and 64" in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["--address", "auto"], "need Ray", id="address"),
        pytest.param(["--gpus-per-worker", "1"], "need Ray", id="GPUs"),
        pytest.param(["--cpus-per-worker", "2"], "need Ray", id="CPUs"),
    ],
)
def test_ray_options_are_refused_without_ray(arguments: list[str], told: str, program: Program) -> None:
    code, out, err = program("score", "x.jsonl", *arguments)
    assert (code, out) == (2, "")
    assert told in err


def test_a_missing_ray_installation_is_reported_with_its_extra(
    data: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    code, out, err = program("score", data, *OPTIONS, "--no-cache", "--engine", "ray")
    assert (code, out) == (2, "")
    assert "pip install 'prefscope[ray]'" in err
