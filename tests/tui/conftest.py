"""The bundled demo ledger, and apps that exit with their test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from prefscope.ledger.table import load_ledger
from prefscope.settings import PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model import idle_timer
from prefscope.tui.model.session import Session
from prefscope.tui.widgets import filter_bar, pair_preview
from tests.tui.pairs_app import PairsApp
from tests.tui.terminal import Terminal


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run postponed work at once instead of waiting until the user is idle."""
    for module in (filter_bar, pair_preview):
        monkeypatch.setattr(module, "DELAY", 0.005)
    monkeypatch.setattr(idle_timer, "IDLE_AFTER", 0.0)


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Start every test with the state of a new user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv("TMUX", raising=False)


@pytest.fixture
def demo(samples: Path, tmp_path: Path) -> Session:
    """Return a session on a copy of the demo ledger, so that its marks can be written beside it."""
    path = tmp_path / "demo.parquet"
    shutil.copy(samples / "demo.parquet", path)
    return Session(load_ledger(path), PreferenceSettings())


@pytest.fixture
def show_pairs() -> Iterator[Callable[..., Terminal]]:
    """Return a function that shows the Pairs pane on a terminal."""
    with ExitStack() as stack:

        def show(session: Session, size: tuple[int, int] = (80, 24)) -> Terminal:
            return stack.enter_context(Terminal(PairsApp(session), size))

        yield show


@pytest.fixture
def show_app(demo: Session) -> Iterator[Callable[..., Terminal]]:
    """Return a function that shows the whole app on the demo ledger, with options of the app."""
    with ExitStack() as stack:

        def show(size: tuple[int, int] = (80, 24), **options: Any) -> Terminal:
            return stack.enter_context(Terminal(PrefscopeApp(demo, **options), size))

        yield show
