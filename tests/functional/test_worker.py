"""The worker reports its run as events, and ends at once on a signal or when its parent is gone."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.events import (
    BatchScored,
    Event,
    Failed,
    Finished,
    Noted,
    Planned,
    Progressed,
    from_json_line,
    to_json_line,
)
from prefscope.folders import unnamed_ledger, worker_log
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, ScoreSettings
from tests.functional.runs import committed

pytestmark = pytest.mark.slow

SECONDS = 20  # a worker that takes longer to exit hangs
LEDGER = "ledger.parquet"
CACHE = "cache"  # relative, so that the manifests of two folders are alike
MEASURED = {"seconds", "scoring_seconds", "other_bytes"}
LOADING = Progressed("loading torch and transformers", 0)
# A worker whose pipeline is what a test says: no torch, so it starts in no time.
STAND_IN = """
import ctypes, os, subprocess, sys, time, types
from prefscope.events import Finished, Noted
from prefscope.worker import main

def score(settings, place, emit, preview):
{}

sys.modules["prefscope.pipeline.model_run"] = types.SimpleNamespace(score=score)
sys.exit(main())
"""
ENDS: dict[str, tuple[Callable[[subprocess.Popen[str]], None], signal.Signals]] = {
    "SIGTERM": (lambda worker: worker.terminate(), signal.SIGTERM),
    "SIGINT": (lambda worker: worker.send_signal(signal.SIGINT), signal.SIGINT),
    "SIGHUP": (lambda worker: worker.send_signal(signal.SIGHUP), signal.SIGHUP),
    "end of stdin": (lambda worker: close(worker.stdin), signal.SIGHUP),
    "closed stdout": (lambda worker: close(worker.stdout), signal.SIGHUP),
}
Start = Callable[..., subprocess.Popen[str]]


def close(stream: Any) -> None:
    stream.close()


@pytest.fixture(name="start")
def _start() -> Iterator[Start]:
    """Return a function that starts a worker; `body` replaces its pipeline."""
    started: list[subprocess.Popen[str]] = []

    def start(body: str | None = None, **options: Any) -> subprocess.Popen[str]:
        code = None if body is None else STAND_IN.format(textwrap.indent(textwrap.dedent(body), "    "))
        command = [sys.executable, *(["-m", "prefscope.worker"] if code is None else ["-c", code])]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
        worker.wait()
        for stream in (worker.stdin, worker.stdout):
            if stream is not None:
                stream.close()


def send(worker: subprocess.Popen[str], text: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(text)
    worker.stdin.flush()


def ask(worker: subprocess.Popen[str], settings: ScoreSettings, ledger: str | None = LEDGER) -> None:
    send(worker, json.dumps({"settings": settings.to_json(), "ledger": ledger}) + "\n")


def said(worker: subprocess.Popen[str]) -> Iterator[Event]:
    """Yield the worker's events; any other line is an error."""
    assert worker.stdout is not None
    return map(from_json_line, worker.stdout)


def wait_for(worker: subprocess.Popen[str], kind: type[Event], times: int = 1) -> None:
    events = said(worker)
    for _ in range(times):
        assert any(isinstance(event, kind) for event in events), "the worker ended"


def end(worker: subprocess.Popen[str], how: str) -> None:
    """Terminate a worker, and check that it was ended by the expected signal."""
    act, number = ENDS[how]
    act(worker)
    assert worker.wait(SECONDS) == -number


def unmeasured(events: list[Event]) -> list[dict[str, Any]]:
    """Return the events without measured values, which differ between runs."""
    values = [json.loads(to_json_line(event)) for event in events]
    return [{key: found for key, found in value.items() if key not in MEASURED} for value in values]


@dataclass(frozen=True)
class Outcome:
    """The results and events of a run."""

    table: pa.Table
    manifest: dict[str, Any]
    committed: int
    events: list[Event]


def outcome_of(folder: Path, events: list[Event]) -> Outcome:
    manifest = load_ledger(folder / LEDGER).manifest
    return Outcome(
        table=pq.read_table(folder / LEDGER).replace_schema_metadata(None),
        manifest={key: value for key, value in manifest.items() if key != "created"},
        committed=committed(folder / CACHE),
        events=events,
    )


@pytest.fixture(scope="module")
def settings(samples: Path) -> ScoreSettings:
    """Return a run of two hundred small batches."""
    return ScoreSettings(
        data=DataSettings(str(samples / "pairs.jsonl"), limit=50),
        models=ModelSettings(str(samples / "tiny-policy"), str(samples / "tiny-ref")),
        compute=ComputeSettings(cache_dir=CACHE, batch_tokens=64, threads=1),
    )


@pytest.fixture(scope="module")
def in_process(settings: ScoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """Return the results of the pipeline in this process."""
    folder = tmp_path_factory.mktemp("in-process")
    events: list[Event] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        score(settings, lambda _: Path(LEDGER), events.append)
    return outcome_of(folder, events)


def test_a_worker_emits_and_writes_what_the_pipeline_does_in_process(
    settings: ScoreSettings, in_process: Outcome, start: Start, tmp_path: Path
) -> None:
    worker = start()
    ask(worker, settings)
    events = list(said(worker))
    assert worker.wait(SECONDS) == 0
    assert unmeasured(events) == unmeasured(in_process.events)
    assert isinstance(events[-1], Finished)
    outcome = outcome_of(tmp_path, events)
    assert outcome.table.equals(in_process.table)
    assert outcome.manifest == in_process.manifest


@pytest.mark.parametrize(
    "how",
    [
        "SIGTERM",
        pytest.param("end of stdin", marks=pytest.mark.exhaustive),
        pytest.param("closed stdout", marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_ended_between_batches_is_finished_by_the_next_worker_without_scoring_twice(
    how: str, settings: ScoreSettings, in_process: Outcome, start: Start, tmp_path: Path
) -> None:
    ended = start()
    ask(ended, settings)
    wait_for(ended, BatchScored, times=5)
    end(ended, how)
    before = committed(tmp_path / CACHE)
    assert 5 <= before < in_process.committed
    assert not list(tmp_path.glob("*ledger*"))

    worker = start()
    ask(worker, settings)
    outcome = outcome_of(tmp_path, list(said(worker)))
    assert worker.wait(SECONDS) == 0
    assert [event.resumed for event in outcome.events if isinstance(event, Planned)] == [True, True]
    scored = sum(event.sequences for event in outcome.events if isinstance(event, BatchScored))
    assert before + scored == outcome.committed == in_process.committed
    assert outcome.table.equals(in_process.table)


def test_unreadable_data_fail_with_advice_and_exit_code_2(settings: ScoreSettings, start: Start) -> None:
    worker = start()
    ask(worker, replace(settings, data=DataSettings("nowhere.jsonl")))
    message = "nowhere.jsonl: there is no such file. Check the path."
    assert list(said(worker)) == [LOADING, Failed(message, 2)]
    assert worker.wait(SECONDS) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("what?", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'settings'"),
        (
            '{"settings": {"data": {"source": "x", "colour": 1}}, "ledger": null}',
            "unexpected keyword argument 'colour'",
        ),
    ],
)
def test_an_invalid_first_line_fails_before_the_pipeline_is_loaded(line: str, reason: str, start: Start) -> None:
    worker = start("raise AssertionError")
    send(worker, line + "\n")
    (event,) = said(worker)
    assert isinstance(event, Failed)
    assert event.exit_code == worker.wait(SECONDS) == 2
    assert reason in event.message
    assert "Its first line has to be" in event.message


def test_a_worker_reads_no_data_from_its_stdin(settings: ScoreSettings, start: Start) -> None:
    worker = start("raise AssertionError")
    ask(worker, replace(settings, data=DataSettings("-")))
    (event,) = said(worker)
    assert event == Failed("stdin: a worker cannot read its data set from stdin. Pass a file or a hub id.", 2)


def test_settings_may_arrive_late_and_in_pieces(settings: ScoreSettings, start: Start) -> None:
    worker = start('emit(Finished(str(place("0f")), settings.data.limit, 0.0))')
    first, second = json.dumps({"settings": settings.to_json(), "ledger": None}).split('"ledger"')
    send(worker, first)
    time.sleep(0.5)
    send(worker, f'"ledger"{second}\n')
    assert list(said(worker)) == [LOADING, Finished(str(unnamed_ledger(settings.data.source, "0f")), 50, 0.0)]
    assert worker.wait(SECONDS) == 0


@pytest.mark.parametrize("how", ["SIGTERM", "end of stdin"])
@pytest.mark.parametrize("text", ["", '{"settings": '], ids=["nothing", "half a line"])
def test_a_worker_waiting_for_its_settings_can_be_terminated(how: str, text: str, start: Start) -> None:
    worker = start("raise AssertionError")
    send(worker, text)
    end(worker, how)
    assert list(said(worker)) == []


@pytest.mark.parametrize(
    ("how", "library"),
    [(how, "CDLL") for how in ENDS] + [(how, "PyDLL") for how in ENDS if how.startswith("SIG")],
)
def test_a_worker_can_be_terminated_inside_a_long_call_that_holds_the_gil(
    how: str, library: str, settings: ScoreSettings, start: Start
) -> None:
    worker = start(f'emit(Noted("calling")); ctypes.{library}(None).sleep(600)')  # PyDLL keeps the interpreter's lock
    ask(worker, settings)
    wait_for(worker, Noted)
    end(worker, how)


def refuse_signals() -> None:
    for _, number in ENDS.values():
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "end of stdin"])
def test_signals_that_the_parent_ignores_or_blocks_still_terminate_a_worker(
    how: str, settings: ScoreSettings, start: Start
) -> None:
    worker = start('emit(Noted("working")); time.sleep(600)', preexec_fn=refuse_signals)
    ask(worker, settings)
    wait_for(worker, Noted)
    end(worker, how)


@pytest.mark.parametrize("how", ["SIGTERM", "end of stdin"])
@pytest.mark.parametrize("step", ["pass", 'place("0f")'], ids=["scoring", "writing the ledger"])
def test_a_worker_ends_if_its_reader_stops_reading(how: str, step: str, settings: ScoreSettings, start: Start) -> None:
    worker = start(f"{step}\nwhile True:\n    emit(Noted('x' * 1000))")
    ask(worker, settings)
    assert worker.stdout is not None
    waiting, before = 0, -1
    while waiting != before or not waiting:  # until the pipe is full
        time.sleep(0.3)
        before = waiting
        (waiting,) = struct.unpack("i", fcntl.ioctl(worker.stdout, termios.FIONREAD, b"\0" * 4))
    end(worker, how)


@pytest.mark.parametrize("how", ["SIGTERM", "end of stdin", "closed stdout"])
def test_a_half_written_ledger_is_removed_when_the_worker_is_terminated(
    how: str, settings: ScoreSettings, start: Start, tmp_path: Path
) -> None:
    worker = start("""
        import pyarrow as pa
        from prefscope.ledger.file import write_ledger

        def groups():
            emit(Noted("writing"))
            time.sleep(600)
            yield {}

        write_ledger(place("0f"), pa.schema([("row", pa.int64())]), groups())
    """)
    ask(worker, settings)
    wait_for(worker, Noted)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    end(worker, how)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["SIGTERM", "end of stdin"])
def test_the_children_of_a_worker_with_its_own_session_end_with_it(
    how: str, settings: ScoreSettings, start: Start
) -> None:
    read, write = os.pipe()
    worker = start(
        f'subprocess.Popen(["sleep", "600"], pass_fds=[{write}]); emit(Noted("started")); time.sleep(600)',
        start_new_session=True,
        pass_fds=[write],
    )
    os.close(write)
    ask(worker, settings)
    wait_for(worker, Noted)
    if how == "SIGTERM":
        os.killpg(worker.pid, signal.SIGTERM)
    else:
        close(worker.stdin)
    assert worker.wait(SECONDS) < 0
    assert select.select([read], [], [], SECONDS)[0]  # nobody holds the other end any more
    os.close(read)


def test_output_of_libraries_goes_to_the_log_and_stdout_has_only_events(settings: ScoreSettings, start: Start) -> None:
    worker = start("""
        print("one")
        os.write(1, b"two\\n")
        subprocess.run(["sh", "-c", "echo three; echo four >&2; cat"], timeout=10)
        print("five", file=sys.stderr)
        emit(Noted("six"))
    """)
    ask(worker, settings)
    assert list(said(worker)) == [LOADING, Noted("six")]
    assert worker.wait(SECONDS) == 0
    assert sorted(worker_log(worker.pid).read_text().split()) == ["five", "four", "one", "three", "two"]


def test_a_quiet_run_leaves_no_log(settings: ScoreSettings, start: Start) -> None:
    worker = start("emit(Noted(str(os.path.getsize(2))))")
    ask(worker, settings)
    assert list(said(worker)) == [LOADING, Noted("0")]
    assert worker.wait(SECONDS) == 0
    assert not worker_log(worker.pid).exists()


def test_a_bug_fails_with_exit_code_70_and_the_path_of_a_log_with_its_traceback(
    settings: ScoreSettings, start: Start
) -> None:
    worker = start('raise ZeroDivisionError("no luck")')
    ask(worker, settings)
    log = worker_log(worker.pid)
    message = f"A bug in prefscope: ZeroDivisionError. Please report it with {log}"
    assert list(said(worker)) == [LOADING, Failed(message, 70)]
    assert worker.wait(SECONDS) == 70
    assert log.read_text().startswith("Traceback (most recent call last):\n")
    assert log.read_text().endswith("\nZeroDivisionError: no luck\n")


def test_a_crash_in_a_library_leaves_its_stack_in_the_log(settings: ScoreSettings, start: Start) -> None:
    worker = start("ctypes.string_at(0)")
    ask(worker, settings)
    assert list(said(worker)) == [LOADING]
    assert worker.wait(SECONDS) == -signal.SIGSEGV
    assert "Segmentation fault" in worker_log(worker.pid).read_text()


def test_old_logs_are_removed(settings: ScoreSettings, start: Start) -> None:
    old, new = worker_log("old"), worker_log("new")
    old.parent.mkdir(parents=True, exist_ok=True)
    for log in (old, new):
        log.touch()
    os.utime(old, (0, 0))
    ask(worker := start("pass"), settings)
    assert worker.wait(SECONDS) == 0
    assert (old.exists(), new.exists()) == (False, True)


def test_a_run_continues_if_no_log_can_be_written(
    settings: ScoreSettings, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    worker = start('emit(Noted("on"))')
    ask(worker, settings)
    assert list(said(worker)) == [LOADING, Noted("on")]
    assert worker.wait(SECONDS) == 0
