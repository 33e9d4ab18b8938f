"""While a worker scores, the screens show its results so far, and none are lost when the worker ends."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import math
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefscope.events import Finished
from prefscope.folders import sample_data
from prefscope.ledger.columns import LOGPS
from prefscope.ledger.file import FORMAT_VERSION, METADATA_KEY
from prefscope.ledger.live import LiveLedger
from prefscope.ledger.marks import load_marks
from prefscope.ledger.table import load_ledger
from prefscope.pipeline.run import score
from prefscope.report.export import export
from prefscope.settings import (
    ComputeSettings,
    DataSettings,
    DispatchSettings,
    ModelSettings,
    PreferenceSettings,
    ScoreSettings,
)
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.dialogs.export import ExportDialog
from prefscope.tui.model import idle_timer, worker_run
from prefscope.tui.model.session import Session
from prefscope.tui.model.state import recall
from prefscope.tui.model.worker_run import Scoring
from prefscope.tui.screens.error import ErrorScreen
from prefscope.tui.screens.load import LoadScreen
from prefscope.tui.screens.main import MainScreen
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

PAIRS = 40
# The worker, with a little more time for every batch; before the fourth batch it waits while there is a file `hold`.
SLOW = """
import itertools, sys, time
from pathlib import Path
from prefscope import worker
from prefscope.pipeline.dispatch import local

start_batch, batches = local.start_batch, itertools.count(1)

def slowly(*arguments):
    time.sleep(0.05)
    number = next(batches)
    while number > 3 and Path({hold!r}).exists():
        time.sleep(0.05)
    return start_batch(*arguments)

local.start_batch = slowly
sys.exit(worker.main())
"""


@pytest.fixture(autouse=True)
def _slow_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(worker_run, "WORKER", slow_worker(tmp_path))


def slow_worker(folder: Path) -> tuple[str, ...]:
    """Return the command of a worker that is held by a file in a folder."""
    return sys.executable, "-c", SLOW.format(hold=str(folder / "hold"))


def settings_in(folder: Path) -> ScoreSettings:
    return ScoreSettings(
        data=DataSettings(str(sample_data() / "pairs.jsonl"), limit=PAIRS),
        models=ModelSettings(str(sample_data() / "tiny-policy"), str(sample_data() / "tiny-ref")),
        compute=ComputeSettings(cache_dir=str(folder / "cache"), batch_tokens=1200, threads=1),
    )


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> ScoreSettings:
    return settings_in(tmp_path)


@contextmanager
def started(folder: Path) -> Iterator[Terminal]:
    """Start a run from the load screen that is held after three batches, and yield it with their numbers shown."""
    (folder / "hold").touch()
    app = PrefscopeApp(None, settings=settings_in(folder), ledger=folder / "ledger.parquet")
    with pytest.MonkeyPatch.context() as patch, Terminal(app, (120, 36)) as terminal:
        patch.setattr(worker_run, "WORKER", slow_worker(folder))
        patch.setattr(idle_timer, "IDLE_AFTER", 0.0)
        terminal.click("#score", 3, 0)
        wait_for_some(terminal)
        yield terminal


@pytest.fixture(name="held")
def _held(tmp_path: Path) -> Iterator[Terminal]:
    """Return a terminal with a run that is held after three batches."""
    with started(tmp_path) as terminal:
        yield terminal


def release(folder: Path) -> None:
    """Let a held run go on."""
    (folder / "hold").unlink()


@pytest.fixture(name="partial", scope="module")
def _partial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Return another one, for tests that only look."""
    with started(tmp_path_factory.mktemp("partial")) as terminal:
        terminal.sleep(0.6)
        yield terminal


@dataclass(frozen=True)
class Watched:
    """A finished run, in which a pair was marked while others were not scored."""

    terminal: Terminal
    ledger: Path
    marked_at_once: bool
    """Whether the mark was in its file before the run ended."""


@pytest.fixture(name="watched", scope="module")
def _watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    with started(folder) as terminal:
        terminal.press("2", "space")
        marked = (folder / "ledger.marks.json").is_file()
        release(folder)
        wait_for_all(terminal)
        terminal.wait_for(lambda: f"Scored {PAIRS} pairs" in terminal.text)
        yield Watched(terminal, folder / "ledger.parquet", marked)


def main_screen(terminal: Terminal) -> MainScreen:
    (screen,) = (screen for screen in terminal.app.screen_stack if isinstance(screen, MainScreen))
    return screen


def is_open(terminal: Terminal) -> bool:
    return any(isinstance(screen, MainScreen) for screen in terminal.app.screen_stack)


def session(terminal: Terminal) -> Session:
    return main_screen(terminal).session


def run_of(terminal: Terminal) -> Scoring:
    found = main_screen(terminal).scoring
    assert found is not None
    return found


def known(terminal: Terminal) -> int:
    """Return the number of pairs that are shown as scored."""
    if not is_open(terminal):
        return 0
    view = session(terminal).view
    return int(np.isfinite(view.column("margins")).sum())


def wait_for_some(terminal: Terminal) -> None:
    terminal.wait_for(lambda: known(terminal) > 0)
    assert known(terminal) < PAIRS


def wait_for_all(terminal: Terminal) -> None:
    terminal.wait_for(lambda: not isinstance(session(terminal).ledger, LiveLedger))


def table(path: Path) -> bytes:
    """Return the flat table of a ledger as CSV, without the marks beside it."""
    alone = path.with_name("alone.parquet")
    shutil.copy(path, alone)
    export(load_ledger(alone), PreferenceSettings(), alone.with_suffix(".csv"), texts=True)
    return alone.with_suffix(".csv").read_bytes()


@pytest.fixture(name="undisturbed", scope="module")
def _undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return the table of an undisturbed run without screens, from an empty store."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return table(score(settings_in(folder), lambda _: folder / "ledger.parquet", lambda _: None))


def test_every_screen_shows_its_numbers_after_the_first_batch(partial: Terminal) -> None:
    terminal = partial
    terminal.press("1")
    assert "accuracy" in terminal.text
    assert f"of {PAIRS} pairs" in terminal.lines[0]
    terminal.press("2")
    assert any(line.split()[-1:] == ["·"] for line in terminal.lines[4:20])
    assert "scored" in terminal.text
    terminal.press("4")
    assert "mean margin" in terminal.text
    terminal.press("6")
    assert "flags occur on no pair" in terminal.text


def test_a_run_of_several_workers_fills_the_screens_as_one_process_does(
    settings: ScoreSettings, undisturbed: bytes, tmp_path: Path
) -> None:
    asked = replace(settings, dispatch=DispatchSettings(workers=2))
    with Terminal(PrefscopeApp(None, settings=asked, ledger=tmp_path / "ledger.parquet"), (120, 36)) as terminal:
        terminal.click("#score", 3, 0)
        terminal.wait_for(lambda: known(terminal) > 0)
        wait_for_all(terminal)
    assert table(tmp_path / "ledger.parquet") == undisturbed


def test_the_strip_shows_the_progress_of_the_run(partial: Terminal) -> None:
    partial.resize(80, 24)
    partial.wait_for(lambda: "tok/s" in partial.lines[2])
    assert f"/{PAIRS} pairs" in partial.lines[2]
    assert "left · x stops" in partial.lines[2]
    assert partial.widths == {80}
    partial.resize(120, 36)


def test_filter_and_sort_apply_to_the_scored_pairs(partial: Terminal) -> None:
    shown = session(partial)
    shown.set_filter("margin == margin")
    assert shown.order.size == known(partial)
    partial.press("2", "<", "<", "<", "<", "s")
    margins = shown.view.column(shown.sort.column)[shown.order]
    assert shown.sort.column != "row"
    assert np.isfinite(margins).all()
    shown.set_filter("")


def test_the_order_of_the_table_does_not_jump(held: Terminal, tmp_path: Path) -> None:
    terminal = held
    terminal.press("2")
    shown = session(terminal)
    shown.set_filter("margin == margin")
    before, first = shown.order.copy(), known(terminal)
    release(tmp_path)
    terminal.wait_for(lambda: known(terminal) > first)
    assert shown.order.tolist() == before.tolist()
    terminal.wait_for(lambda: "order is outdated: r" in terminal.text)
    terminal.press("r")
    assert shown.order.size > before.size


def test_numbers_do_not_change_while_keys_are_pressed(
    held: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal = held
    monkeypatch.setattr(idle_timer, "IDLE_AFTER", math.inf)
    monkeypatch.setattr(idle_timer, "LONGEST_WAIT", math.inf)
    terminal.press("2")
    shown, generation = known(terminal), run_of(terminal).generation
    release(tmp_path)
    terminal.wait_for(lambda: run_of(terminal).generation > generation + 1)
    assert known(terminal) == shown
    monkeypatch.setattr(idle_timer, "IDLE_AFTER", 0.0)
    terminal.wait_for(lambda: known(terminal) > shown)


def test_a_scored_pair_shows_tokens_and_others_are_marked_not_scored_yet(partial: Terminal) -> None:
    terminal, shown = partial, session(partial)
    scored = np.isfinite(shown.view.column("margins"))[shown.order]
    shown.move_to(int(np.flatnonzero(scored)[0]))
    terminal.press("3")
    assert "tok 1/" in terminal.text
    assert re.search(r"margin [+−]\d", terminal.text)
    assert "not scored" not in terminal.text
    shown.move_to(int(np.flatnonzero(~scored)[0]))
    terminal.press("1", "3")
    assert "not scored yet" in terminal.text


def test_the_finished_ledger_equals_that_of_the_command_line(watched: Watched, undisturbed: bytes) -> None:
    terminal = watched.terminal
    assert table(watched.ledger) == undisturbed
    assert session(terminal).ledger.is_known.all()
    assert not terminal.app.screen.query_one("#scoring").display


def test_a_killed_worker_is_reported_and_its_run_can_be_resumed(
    held: Terminal, undisturbed: bytes, tmp_path: Path
) -> None:
    terminal = held
    process = run_of(terminal)._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    terminal.wait_for(lambda: isinstance(terminal.app.screen, ErrorScreen))
    assert "memory" in terminal.text
    assert "x tries to continue" in terminal.text
    release(tmp_path)
    terminal.press("escape", "x")
    wait_for_all(terminal)
    assert table(tmp_path / "ledger.parquet") == undisturbed


def test_a_stopped_run_can_be_resumed(held: Terminal, undisturbed: bytes, tmp_path: Path) -> None:
    terminal = held
    terminal.press("x")
    terminal.wait_for(lambda: "stopped at" in terminal.text)
    stopped = known(terminal)
    release(tmp_path)
    terminal.press("x")
    terminal.wait_for(lambda: run_of(terminal).live is not None)
    terminal.wait_for(lambda: known(terminal) >= stopped)
    wait_for_all(terminal)
    assert table(tmp_path / "ledger.parquet") == undisturbed


def test_a_partial_ledger_is_written_soon_after_the_first_batch(partial: Terminal) -> None:
    partial.wait_for(lambda: (found := run_of(partial).saved) is not None and found.scored > 0)
    saved = run_of(partial).saved
    assert saved is not None
    assert saved.scored < saved.pairs == PAIRS
    assert load_ledger(saved.path).num_unscored == PAIRS - saved.scored


def test_a_stopped_run_leaves_a_ledger_whose_scored_pairs_are_exact_and_whose_others_are_flagged(
    held: Terminal, undisturbed: bytes, tmp_path: Path
) -> None:
    held.press("x")
    held.wait_for(lambda: "saved: ledger.parquet · x resumes" in held.text)
    ledger = load_ledger(tmp_path / "ledger.parquet")
    scored = ledger.is_known
    assert 0 < scored.sum() < PAIRS
    assert ledger.manifest["partial"] == {"scored": int(scored.sum()), "pairs": PAIRS}
    assert [("not_scored" in flags) for flags in ledger.stored["flags"]] == (~scored).tolist()
    assert np.isnan(ledger.rewards(0.1)["margins"]).tolist() == (~scored).tolist()
    found, whole = (csv.DictReader(io.StringIO(text.decode())) for text in (table(ledger.path), undisturbed))
    pairs = zip(found, whole, scored, strict=True)
    assert all((one == other) == known for one, other, known in pairs)
    tokens = [np.isfinite(ledger.pair(at)["policy_chosen_token_logps"]).all() for at in range(PAIRS)]
    assert [bool(found) for found, known in zip(tokens, scored, strict=True) if known] == [True] * int(scored.sum())


def test_quitting_leaves_a_ledger_that_the_same_run_completes(
    settings: ScoreSettings, undisturbed: bytes, tmp_path: Path
) -> None:
    with started(tmp_path) as terminal:
        terminal.press("2", "space", "q")
    path = tmp_path / "ledger.parquet"
    left = terminal.app.unfinished  # type: ignore[attr-defined]
    assert left.path == path
    assert left.scored == load_ledger(path).is_known.sum() > 0
    assert score(settings, lambda _: path, lambda _: None) == path
    assert table(path) == undisturbed
    assert load_ledger(path).num_unscored == 0
    assert len(load_marks(path)) == 1


def test_a_partial_ledger_never_replaces_a_complete_one(settings: ScoreSettings, tmp_path: Path) -> None:
    path = tmp_path / "ledger.parquet"
    score(replace(settings, data=replace(settings.data, limit=3)), lambda _: path, lambda _: None)
    before = path.read_bytes()
    with started(tmp_path) as terminal:
        terminal.press("2", "space", "x")
        terminal.wait_for(lambda: "saved: ledger.partial.parquet" in terminal.text)
        assert path.read_bytes() == before
        assert load_ledger(tmp_path / "ledger.partial.parquet").num_pairs == PAIRS
        marks = load_marks(tmp_path / "ledger.partial.parquet")
        assert len(marks) == 1
        assert marks.path == tmp_path / "ledger.marks.json"  # nothing that is marked here is lost with the file
        release(tmp_path)
        terminal.press("x")
        wait_for_all(terminal)
    assert load_ledger(path).num_pairs == PAIRS
    assert not list(tmp_path.glob("*.partial*"))


def test_pairs_are_exported_while_the_run_goes_on(held: Terminal, tmp_path: Path) -> None:
    held.press("e")
    held.wait_for(lambda: isinstance(held.app.screen, ExportDialog))
    held.press("enter")
    output = tmp_path / "ledger-view.csv"
    held.wait_for(output.is_file)
    held.wait_for(lambda: "are not scored yet" in held.text.replace("\n", " "))
    rows = list(csv.DictReader(output.open()))
    assert len(rows) == PAIRS
    assert 0 < sum(row["flags"] != "not_scored" for row in rows) < PAIRS
    assert all((row["margins"] == "nan") == (row["flags"] == "not_scored") for row in rows)


def test_a_stopped_run_without_a_name_is_found_among_the_recently_opened(
    settings: ScoreSettings, tmp_path: Path
) -> None:
    (tmp_path / "hold").touch()
    with Terminal(PrefscopeApp(None, settings=settings), (120, 36)) as terminal:
        terminal.click("#score", 3, 0)
        wait_for_some(terminal)
        terminal.press("2", "space", "x")
        terminal.wait_for(lambda: "saved: pairs-" in terminal.text)
        terminal.wait_for(lambda: any("ledgers" in one.data for one in recall().opened))
        (path,) = (Path(one.data) for one in recall().opened if "ledgers" in one.data)
        assert len(load_marks(path)) == 1
        assert load_ledger(path).num_unscored > 0


def test_quitting_ends_the_worker_and_removes_its_temporary_files(settings: ScoreSettings, tmp_path: Path) -> None:
    (tmp_path / "hold").touch()
    with Terminal(PrefscopeApp(None, settings=settings), (80, 24)) as terminal:
        terminal.click("#score", 3, 0)
        wait_for_some(terminal)
        process = run_of(terminal)._process
        assert process is not None
        terminal.press("q")
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert list((tmp_path / "cache").glob("preview-*")) == []


def test_a_mark_made_while_scoring_is_stored_beside_the_ledger(watched: Watched) -> None:
    assert watched.marked_at_once
    shown = session(watched.terminal)
    assert shown.mark_of(shown.position).decision == "keep"


def test_scoring_errors_are_shown_on_the_load_screen(settings: ScoreSettings, tmp_path: Path) -> None:
    bad = tmp_path / "rows.jsonl"
    bad.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"nothing": 1}\n')
    settings = replace(settings, data=DataSettings(str(bad)))
    with Terminal(PrefscopeApp(None, settings=settings), (80, 24)) as terminal:
        terminal.wait_for(lambda: "1 of 2 rows are not pairs" in terminal.text)
        terminal.click("#score", 3, 0)
        terminal.wait_for(lambda: isinstance(terminal.app.screen, ErrorScreen))
        assert ":2: no known preference layout" in terminal.text
        terminal.press("escape")
        assert isinstance(terminal.app.screen, LoadScreen)


def test_a_ledger_of_a_newer_version_is_reported_on_the_load_screen(settings: ScoreSettings, tmp_path: Path) -> None:
    newer = tmp_path / "newer.parquet"
    metadata = {METADATA_KEY: json.dumps({"format": FORMAT_VERSION + 1}).encode()}
    pq.write_table(pa.table({"row": [0]}).replace_schema_metadata(metadata), newer)
    asked = replace(settings, data=DataSettings(str(newer)))
    with Terminal(PrefscopeApp(None, settings=asked), (80, 24)) as terminal:
        terminal.wait_for(lambda: "written by a newer prefscope. Update prefscope." in terminal.text)
        terminal.click("#score", 3, 0)
        assert isinstance(terminal.app.screen, LoadScreen)


def test_a_file_of_log_probs_is_opened_without_a_model(settings: ScoreSettings, tmp_path: Path) -> None:
    rows = tmp_path / "logps.jsonl"
    rows.write_text(json.dumps({**dict.fromkeys(LOGPS, -3.0), "policy_chosen_logps": -2.0}))
    asked = replace(settings, data=DataSettings(str(rows)), models=ModelSettings(""))
    with Terminal(PrefscopeApp(None, settings=asked, ledger=tmp_path / "made.parquet"), (80, 24)) as terminal:
        terminal.wait_for(lambda: "no model needed" in terminal.text)
        terminal.click("#score", 3, 0)
        terminal.wait_for(lambda: isinstance(terminal.app.screen, MainScreen))
        assert session(terminal).ledger.num_pairs == 1


def test_a_run_has_finished_when_its_worker_has_exited(settings: ScoreSettings, tmp_path: Path) -> None:
    async def run() -> Scoring:
        found = Scoring(settings, tmp_path / "alone.parquet")
        await found.run()
        await found.finish()
        return found

    found = asyncio.run(run())
    assert isinstance(found.ended, Finished)
    assert found.seconds_left == 0
