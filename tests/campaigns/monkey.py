"""Press random keys, click anywhere, resize, change themes and filters, and check what is shown after every step.

    python -m tests.campaigns.monkey [--steps 20000] [--seed 1]

Every step is checked: the app is alive, every line is as wide as the terminal, no figure is cut off, and header, cards
and table agree with a recomputation from the ledger's file. The steps are divided among three sizes. Short form:
`tests/tui/test_monkey.py`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from textual.widgets import ContentSwitcher

from prefscope.folders import sample_data
from prefscope.ledger.live import LiveLedger
from prefscope.ledger.marks import load_marks
from prefscope.ledger.pairing import PairedView, Pairing, courses_of
from prefscope.ledger.run_folder import RunFolder, Step
from prefscope.ledger.table import load_ledger
from prefscope.ledger.view import View
from prefscope.report.cards import cards
from prefscope.settings import PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from prefscope.tui.screens.main import LEAST, MainScreen
from tests.tui.terminal import Terminal
from tests.tui.test_bindings import own_bindings
from tests.tui.test_live_run import started

SIZES = ((80, 24), (120, 36), (160, 50))
RESIZED = (*SIZES, (60, 16), (81, 17), (100, 20))
SECONDS_TO_ARRIVE = 5.0
ORDER = ("demo", "training", "demo", "run")
"""The kinds of walks, over and over."""
LEAVING = 0.3
"""How often a step leaves a dialog or the load screen."""
QUIT = "q Quit"
"""Of the footer: not clicked."""
NOT_PRESSED = {"q", "ctrl+q", "ctrl+c", "ctrl+d", "ctrl+z", "super+c"}
FILTERS = (
    "margin < 0",
    'category == "math"',
    "len_c > 1.5 * len_r",
    "margin > 99",
    "margin_b > margin",
    "nothing < 1",
    'prompt ~ "the"',
    "mark(any)",
    "flips >= 1",
    'course == "learnt"',
    "not",
    "",
)


def keys() -> list[str]:
    """Return the keys that mean anything, and a few that do not."""
    bound = {key for _, binding in own_bindings() for key in binding.key.split(",")}
    plain = {"up", "down", "left", "right", "pageup", "pagedown", "home", "end", "tab", "shift+tab", "enter", "escape"}
    return sorted((bound | plain | {"space", "backspace", "w", "7"}) - NOT_PRESSED)


class Monkey:
    """Takes random steps on a terminal."""

    def __init__(self, terminal: Terminal, seed: int) -> None:
        self.terminal = terminal
        self.draw = random.Random(seed)  # noqa: S311 (no secret)
        self.keys = keys()
        self.steps: list[str] = []

    def step(self) -> None:
        """Take a step, and record it."""
        terminal, draw = self.terminal, self.draw
        kind = draw.random()
        if not isinstance(terminal.app.screen, MainScreen) and draw.random() < LEAVING:
            self._press("escape")
        elif kind < 0.12:
            self._press(draw.choice("1234567"))
        elif kind < 0.8:
            self._press(*draw.choices(self.keys, k=draw.randint(1, 3)))
        elif kind < 0.86:
            expression = draw.choice(FILTERS)
            self._press("2", "slash", *["backspace"] * 3, *expression, "enter")
        elif kind < 0.94:
            width, height = terminal.app.size
            x, y = draw.randrange(width), draw.randrange(height)
            if QUIT in terminal.lines[y][max(x - len(QUIT), 0) : x + len(QUIT)]:
                return
            self.steps.append(f"click {x} {y}")
            terminal.click_at(x, y, times=draw.randint(1, 2))
        elif kind < 0.97:
            size = draw.choice(RESIZED)
            self.steps.append(f"resize {size}")
            terminal.resize(*size)
        else:
            theme = draw.choice(sorted(terminal.app.available_themes))
            self.steps.append(f"theme {theme}")
            terminal.app.theme = theme
            terminal.rest()

    def _press(self, *pressed: str) -> None:
        self.steps.append(" ".join(pressed))
        self.terminal.press(*pressed)

    def check(self) -> None:
        """Raise an error if anything that is shown is wrong."""
        app = self.terminal.app
        assert app._exception is None
        assert app.return_code is None
        assert self.terminal.widths == {app.size.width}
        screen = app.screen
        if isinstance(screen, MainScreen) and screen.maximized is None:
            app.clear_notifications()  # which may cover what is checked
            self.terminal.rest()
            check_screen(screen, self.terminal)


def check_screen(screen: MainScreen, terminal: Terminal) -> None:
    """Compare header, cards and order with a recomputation from the file."""
    width, height = terminal.app.size
    if width < LEAST.width or height < LEAST.height or screen.query("HelpPanel"):
        return
    session, text = screen.session, terminal.text
    fresh = recomputed(session)
    if session.is_stale:  # a run has scored pairs since they were filtered
        return
    matching = fresh.filter(session.expression)
    assert np.array_equal(np.sort(session.order), np.flatnonzero(matching))
    if session.expression and width > 100:
        assert f"· {matching.sum():,} of {len(matching):,}" in text.split("\n", 1)[0]
    pane = screen.query_one(ContentSwitcher).current
    if pane == "overview":
        inside = fresh.only(matching) if not matching.all() else fresh
        for card in cards(inside):
            assert all(word in text for word in card.value.split()), card  # a long value is wrapped
    if pane == "pairs" and "range of" not in text:  # which is shown in place of the count
        assert f"{matching.sum():,}/{len(matching):,}" in text


def recomputed(session: Session) -> View:
    """Return a view of the shown ledger's file that shares nothing with the session; of a run, that of its ledger."""
    if isinstance(session.ledger, LiveLedger):
        return View(session.ledger, session.preferences, session.marks)
    ledger, preferences = load_ledger(session.ledger.path), session.preferences
    marks = load_marks(ledger.path)
    if not isinstance(session.view, PairedView):
        return View(ledger, preferences, marks)
    other = load_ledger(session.view.other.ledger.path)
    view = PairedView(ledger, preferences, marks, other, Pairing(ledger, other))
    every = [load_ledger(one.path) for one in session.runs.ledgers]
    shown = session.runs.shown
    return view.with_courses(
        courses_of(every, session.runs.steps, shown, lambda number: Pairing(every[shown], every[number]))
    )


@contextmanager
def demo(folder: Path, size: tuple[int, int]) -> Iterator[Terminal]:
    """Provide a terminal with copies of the two demo ledgers."""
    for name in ("demo.parquet", "demo-early.parquet"):
        shutil.copy(sample_data() / name, folder / name)
    shown, early = (load_ledger(folder / name) for name in ("demo.parquet", "demo-early.parquet"))
    with Terminal(PrefscopeApp(Session(shown, PreferenceSettings(), [early])), size) as terminal:
        yield terminal


@contextmanager
def training(folder: Path, size: tuple[int, int]) -> Iterator[Terminal]:
    """Provide a terminal with a run folder of three checkpoints, to which a fourth is added."""
    runs = RunFolder(folder / "runs")
    runs.path.mkdir()
    for step, name in ((12, "demo-early"), (36, "demo"), (40, "demo-early"), (24, "demo")):
        shutil.copy(sample_data() / f"{name}.parquet", runs.ledger_path(step))
        if step != 24:
            runs.record(Step(step, f"checkpoint-{step}", runs.ledger_path(step).name))
    with Terminal(PrefscopeApp(Session.of_training(runs, PreferenceSettings())), size) as terminal:
        arrival = threading.Timer(SECONDS_TO_ARRIVE, runs.record, (Step(24, "c", runs.ledger_path(24).name),))
        arrival.start()
        yield terminal
        arrival.cancel()


@contextmanager
def run(folder: Path, size: tuple[int, int]) -> Iterator[Terminal]:
    """Provide a terminal with a run that has scored some pairs and is held."""
    with started(folder) as terminal:
        terminal.resize(*size)
        yield terminal


KINDS = {"demo": demo, "training": training, "run": run}
"""What a walk is on: two ledgers, a training, or a run that goes on."""


def walk(folder: Path, size: tuple[int, int], seed: int, steps: int, kind: str = "demo") -> None:
    """Take steps on the demo, on a training or on a live run, checking each.

    Raises:
        AssertionError: If a check fails, with the last steps.
    """
    with KINDS[kind](folder, size) as terminal:
        monkey = Monkey(terminal, seed)
        for number in range(steps):
            try:
                monkey.step()
                monkey.check()
            except Exception as error:
                last = "\n".join(monkey.steps[-12:])
                where = f"size {size}, seed {seed}, step {number} of a {kind}"
                raise AssertionError(f"{where}: {error!r}\n{last}") from error


def main() -> int:
    """Walk in pieces of 200 steps, each from a fresh start, and print how many failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed, piece = 0, 200
    for number in range(options.steps // piece):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_STATE_HOME"] = folder
            os.chdir(folder)
            try:
                kind = ORDER[number % len(ORDER)]
                walk(Path(folder), SIZES[number % len(SIZES)], options.seed + number, piece, kind)
            except Exception as error:  # noqa: BLE001 (that of the app comes out as it is, after the walk's own)
                failed += 1
                sys.stdout.write(f"{error.__context__ or ''}\n{error}\n\n")
        sys.stdout.flush()
    sys.stdout.write(f"{options.steps // piece} walks of {piece} steps, {failed} failed\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
