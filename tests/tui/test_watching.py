"""A watch on the screens: waiting for the first checkpoint, following the others, and what goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefscope.folders import sample_data
from prefscope.ledger.run_folder import RunFolder
from prefscope.settings import ComputeSettings, DataSettings, ModelSettings, PreferenceSettings, ScoreSettings
from prefscope.training.settings import WatchSettings
from prefscope.training.watch_process import start_watch
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from prefscope.tui.model.watcher import Watcher
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

OUT, RUNS = Path("out"), Path("runs")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def save(step: int, model: str = "tiny-policy") -> None:
    """Let a checkpoint appear, complete."""
    shutil.copytree(sample_data() / model, OUT / f".{step}")
    (OUT / f".{step}").rename(OUT / f"checkpoint-{step}")


@contextmanager
def watched(ref: str = "tiny-ref") -> Iterator[Terminal]:
    """Watch on a terminal; the process ends with it."""
    data = DataSettings(str(sample_data() / "pairs.jsonl"), sample=12)
    score = ScoreSettings(data, ModelSettings("", str(sample_data() / ref)), compute=ComputeSettings(use_cache=False))
    watcher, folder = Watcher(OUT, start_watch(WatchSettings(score, str(OUT), str(RUNS)))), RunFolder(RUNS)
    session = Session.of_training(folder, PreferenceSettings()) if folder.ledgers() else None
    try:
        with Terminal(PrefscopeApp(session, watching=(folder, watcher)), (100, 30)) as terminal:
            yield terminal
    finally:
        watcher.stop()
        assert watcher.child.process.poll() is not None


def test_a_watch_waits_for_the_folder_then_for_a_checkpoint_then_follows_them() -> None:
    with watched() as terminal:
        assert "Waiting for out to appear." in terminal.text
        OUT.mkdir()
        terminal.wait_for(lambda: "Waiting for the first complete checkpoint in out" in terminal.text)
        save(100)
        terminal.wait_for(lambda: "step-0000100.parquet   12 pairs" in terminal.text)
        save(200, "tiny-base")
        terminal.wait_for(lambda: "Step 200 is scored." in terminal.text)
        assert terminal.lines[0].startswith(" prefscope  step-0000100.parquet")
    with watched() as terminal:  # again: what is scored is shown at once
        assert terminal.lines[0].startswith(" prefscope  step-0000200.parquet")


def test_a_checkpoint_that_cannot_be_scored_is_told_while_waiting() -> None:
    OUT.mkdir()
    save(100)
    (OUT / "checkpoint-100" / "model.safetensors").write_bytes(b"garbage")
    save(200, "tiny-base")
    (OUT / "checkpoint-200" / "config.json").write_text('{"model_type": "nothing\\u001b[31m"}')
    with watched() as terminal:
        terminal.wait_for(lambda: "checkpoint-200: " in terminal.text)
        assert "\x1b" not in terminal.text


def test_a_watch_that_ends_says_why() -> None:
    with watched("nowhere") as terminal:
        terminal.wait_for(lambda: "The watch has ended: " in terminal.text)
        assert "nowhere" in terminal.text


def test_a_watch_that_ends_later_says_so_on_the_screens() -> None:
    OUT.mkdir()
    save(100)
    with watched() as terminal:
        terminal.wait_for(lambda: "step-0000100.parquet   12 pairs" in terminal.text)
        assert isinstance(terminal.app, PrefscopeApp)
        assert terminal.app._watching is not None
        terminal.app._watching[1].child.process.kill()
        terminal.wait_for(lambda: "The watch has ended: " in terminal.text)
