"""The Training pane, and a training that goes on while it is watched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from textual.widgets import ContentSwitcher

from prefscope.ledger.marks import load_marks
from prefscope.ledger.pairing import load_runs
from prefscope.ledger.run_folder import RunFolder, Step
from prefscope.settings import PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.session import Session
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal, assert_golden

pytestmark = pytest.mark.slow

PAIRS = 120


def score(folder: RunFolder, step: int) -> None:
    """Add the ledger of a checkpoint: accuracy rises up to step 600, while both rewards fall after step 300."""
    draw = np.random.default_rng(5)
    steady, noise = draw.normal(2, 3, PAIRS), np.random.default_rng(step).normal(0, 1, PAIRS)
    margins = steady * step / 300 + noise
    chosen = 3.0 - abs(step - 300) / 20 + noise
    path = folder.ledger_path(step)
    pairs = [
        {
            "policy_chosen_logps": -90.0 + up,
            "policy_rejected_logps": -90.0 + up - gap,
            "ref_chosen_logps": -90.0,
            "ref_rejected_logps": -90.0,
            "prompt": f"[user]\nquestion {row}",
        }
        for row, (up, gap) in enumerate(zip(chosen.tolist(), margins.tolist(), strict=True))
    ]
    extra = {"split": ("text", ["train" if row % 3 else "test" for row in range(PAIRS)])}
    path.parent.mkdir(exist_ok=True)
    write_pairs(path, pairs, extra=extra)  # type: ignore[arg-type]
    folder.record(Step(step, f"checkpoint-{step}", path.name))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """Return a run folder with six checkpoints."""
    monkeypatch.chdir(tmp_path)
    found = RunFolder(Path("runs"))
    for step in range(100, 700, 100):
        score(found, step)
    return found


@pytest.fixture
def terminal(folder: RunFolder) -> Iterator[Terminal]:
    session = Session.of_training(folder, PreferenceSettings())
    with Terminal(PrefscopeApp(session), (120, 36)) as terminal:
        yield terminal


def session_of(terminal: Terminal) -> Session:
    assert isinstance(terminal.app, PrefscopeApp)
    assert terminal.app.session is not None
    return terminal.app.session


SMALL, LARGE = (80, 24), (120, 36)


@pytest.mark.parametrize(
    ("name", "keys", "size"),
    [
        ("training", ["7"], SMALL),
        ("training", ["7"], LARGE),
        ("training-turned", ["7", "p"], SMALL),
        ("training-subsets", ["7", "b", "enter"], LARGE),
        ("training-pairs", ["2"], SMALL),
        ("training-pairs", ["2"], LARGE),
    ],
)
def test_a_training_matches_its_golden_file(
    terminal: Terminal, name: str, keys: list[str], size: tuple[int, int]
) -> None:
    terminal.resize(*size)
    terminal.press(*keys)
    terminal.sleep(0.1)
    assert_golden(terminal, name)


def test_the_newest_checkpoint_is_shown_beside_the_one_before(terminal: Terminal) -> None:
    assert terminal.lines[0].startswith(" prefscope  step-0000600.parquet   120 pairs   β=0.1   B step-0000500")


def test_escape_shows_all_pairs_together_again(terminal: Terminal) -> None:
    terminal.press("7", "b", "enter")
    assert "─ train  • test" in terminal.text
    terminal.press("escape")
    assert "• test" not in terminal.text


def test_held_out_pairs_give_their_alarm_without_being_asked_for(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "split")
    for step, trained, held_out in ((1, 0.0, 0.0), (2, 0.0, 8.0), (3, 8.0, -8.0)):
        train = [{"policy_chosen_logps": trained + row / 20} for row in range(-80, 80)]
        test = [{"policy_chosen_logps": held_out + row / 20} for row in range(-80, 80)]
        zeros = {f"{name}_logps": 0.0 for name in ("policy_rejected", "ref_chosen", "ref_rejected")}
        folder.path.mkdir(exist_ok=True)
        extra = {"split": ("text", ["train"] * 160 + ["validation"] * 160)}
        pairs = [zeros | pair for pair in (*train, *test)]
        write_pairs(folder.ledger_path(step), pairs, extra=extra)  # type: ignore[arg-type]
        folder.record(Step(step, "c", folder.ledger_path(step).name))
    with Terminal(PrefscopeApp(Session.of_training(folder, PreferenceSettings())), LARGE) as terminal:
        terminal.press("7")
        assert "⚠ accuracy of validation peaked at step 2 (100.0%) and is 0.0% now" in terminal.text


def test_the_figures_follow_the_scope(terminal: Terminal) -> None:
    terminal.press("2", "slash", *"flips == 0", "enter", "7")
    assert "scope: flips == 0" in terminal.lines[0]
    session = session_of(terminal)
    assert (session.scoped.column("flips") == 0).all()


def test_a_box_of_the_map_lists_its_pairs(terminal: Terminal) -> None:
    terminal.press("7", "right", *["H"] * 30, *["K"] * 6, "enter")
    session = session_of(terminal)
    assert session.expression.startswith("variability >= ")
    assert 0 < session.order.size < PAIRS


def test_a_checkpoint_that_arrives_moves_nothing(terminal: Terminal, folder: RunFolder) -> None:
    session = session_of(terminal)
    terminal.press("2", "slash", *"flips >= 1", "enter", "j", "j")
    shown, order, position = session.ledger.path, session.order.copy(), session.position
    score(folder, 700)
    terminal.wait_for(lambda: len(session.runs) == 7)
    terminal.wait_for(lambda: "Step 700 is scored." in terminal.text)
    assert (session.ledger.path, session.position) == (shown, position)
    assert np.array_equal(session.order, order)
    assert terminal.app.screen.query_one(ContentSwitcher).current == "pairs"
    terminal.press("7")
    assert session.runs.steps == (100, 200, 300, 400, 500, 600, 700)
    assert np.array_equal(session.order, np.flatnonzero(session.view.filter("flips >= 1")))
    terminal.press("5")
    assert "step-0000700" in terminal.text


def test_a_mark_is_that_of_the_pair_at_every_checkpoint(terminal: Terminal, folder: RunFolder) -> None:
    session = session_of(terminal)
    terminal.press("2", "D")
    score(folder, 700)
    terminal.wait_for(lambda: len(session.runs) == 7)
    terminal.press("5", "down", "down", "enter", "2", "j", "K")
    assert session.ledger.path == folder.ledger_path(700)
    marks = load_marks(folder.ledger_path(100))
    assert [marks.of(session.key(row)).decision for row in range(3)] == ["drop", "keep", None]


def test_a_checkpoint_that_arrives_late_takes_its_place(terminal: Terminal, folder: RunFolder) -> None:
    session = session_of(terminal)
    score(folder, 50)
    terminal.wait_for(lambda: len(session.runs) == 7)
    assert session.runs.both == ("step-0000600", "step-0000500")
    assert session.runs.steps[0] == 50


def test_a_checkpoint_that_could_not_be_scored_is_told_once(terminal: Terminal, folder: RunFolder) -> None:
    terminal.sleep(0.8)
    folder.record(Step(700, "checkpoint-700\x1b[31m", problem="model.safetensors ends early"))
    terminal.wait_for(lambda: "model.safetensors ends early" in terminal.text)
    assert "\x1b" not in terminal.text
    terminal.app.clear_notifications()
    score(folder, 800)
    terminal.wait_for(lambda: "Step 800 is scored." in terminal.text)
    assert "ends early" not in terminal.text


@pytest.mark.usefixtures("folder")
def test_the_first_checkpoint_gets_company() -> None:
    young = RunFolder(Path("young"))
    score(young, 100)
    session = Session.of_training(young, PreferenceSettings())
    with Terminal(PrefscopeApp(session), (80, 24)) as terminal:
        terminal.press("5")
        assert "Only one ledger is open." in terminal.text
        score(young, 200)
        terminal.wait_for(lambda: "B step-0000200" in terminal.text)
        terminal.press("7")
        assert "from its checkpoint number 3 on; so far there are 2." in terminal.text
        score(young, 300)
        terminal.wait_for(lambda: "accuracy ↑ step →" in terminal.text)


def test_three_ledgers_without_steps_are_a_training_too(folder: RunFolder) -> None:
    first, *others = load_runs([folder.ledger_path(step) for step in (100, 300, 600)])
    with Terminal(PrefscopeApp(Session(first, PreferenceSettings(), others)), (80, 24)) as terminal:
        terminal.press("7")
        assert "accuracy ↑ step →" in terminal.text


def test_one_ledger_has_no_training(demo: Session) -> None:
    with Terminal(PrefscopeApp(demo), (80, 24)) as terminal:
        terminal.press("7")
        assert "Training" not in terminal.text


def test_the_pair_screen_tells_the_course_of_the_pair(terminal: Terminal) -> None:
    terminal.press("3")
    assert "changes of rank" in terminal.text or "change of rank" in terminal.text
