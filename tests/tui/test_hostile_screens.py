"""Hostile texts, names and messages on every screen and dialog: they are shown, and neither harm nor displace anything.

The app runs without the filters of painted lines, which are the last line of defence: what is hostile has to be safe
before them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len
from textual.app import App
from textual.filter import LineFilter
from textual.widgets import Input

import prefscope.tui
from prefscope.errors import LedgerError
from prefscope.events import Failed
from prefscope.ledger.table import load_ledger
from prefscope.settings import DataSettings, ModelSettings, PreferenceSettings, ScoreSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model import worker_run
from prefscope.tui.model.session import Session
from prefscope.tui.model.state import Opened, Remembered, remember
from prefscope.tui.model.worker_run import Scoring
from prefscope.tui.screens.error import ErrorScreen
from prefscope.tui.screens.main import MainScreen
from prefscope.tui.widgets.scoring_strip import ScoringStrip
from tests.tui.hostile import BROKEN, DANGEROUS, FILE, PAYLOADS, SHORT, STEPS, write_hostile
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow

SIZES = [(80, 24), (120, 36)]


class Bare(PrefscopeApp):
    """Without the filters on rendered lines."""

    CSS_PATH = str(Path(prefscope.tui.__file__).with_name("prefscope.tcss"))

    def get_line_filters(self) -> Sequence[LineFilter]:
        return App.get_line_filters(self)


def dangers(terminal: Terminal) -> list[str]:
    """Return control characters that a terminal would execute, and lines of wrong width."""
    texts = [strip.text for strip in terminal.strips]
    wide = {cell_len(text) for text in texts} - {terminal.app.size.width}
    return [*map(repr, sorted(set("".join(texts)) & DANGEROUS)), *(f"{width} cells" for width in sorted(wide))]


@pytest.fixture(name="paths")
def _paths(tmp_path: Path) -> list[Path]:
    return [write_hostile(tmp_path / f"{FILE}{worse}.parquet", worse=worse) for worse in (0.0, 0.7)]


@pytest.fixture(autouse=True)
def _recently_opened() -> None:
    remember(Remembered(opened=tuple(Opened(text, text, text) for text in [*PAYLOADS.values()][:8])))


@pytest.mark.parametrize("size", SIZES, ids=["80x24", "120x36"])
def test_hostile_pairs_are_shown_safely_on_every_screen(paths: list[Path], size: tuple[int, int]) -> None:
    first, *others = map(load_ledger, paths)
    found = {}
    with Terminal(Bare(Session(first, PreferenceSettings(), others)), size) as terminal:
        for step in STEPS:
            terminal.press(*step.keys)
            terminal.finish()
            terminal.wait_for(lambda step=step: step.seen in terminal.text)  # type: ignore[misc]
            found[step.seen] = dangers(terminal)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


def test_a_hostile_error_is_shown_in_full_and_safely() -> None:
    with Terminal(Bare(None)) as terminal:
        terminal.app.call_later(
            terminal.app.push_screen, ErrorScreen("Not scored", f"{SHORT}\n{BROKEN} told", log=f"{SHORT}\nlast words")
        )
        terminal.rest()
        assert dangers(terminal) == []
        assert "␛[2J␛[4242;1Hcleared" in terminal.text
        assert "[/foo] [bold]x [@click=app.quit]quit[/]" in terminal.text
        terminal.press("end")
        assert "last words" in terminal.text
        terminal.press("y")
        assert terminal.app.clipboard.endswith("last words")
        assert dangers(terminal) == []


TALKER = """
import sys
from prefscope.events import Failed, Noted, Progressed, to_json_line

sys.stdin.readline()
for event in ({events}):
    print(to_json_line(event), flush=True)
sys.stdin.readline()
"""


def talker(events: str) -> tuple[str, ...]:
    """Return a worker that emits some events and waits."""
    return sys.executable, "-c", TALKER.format(events=events)


@pytest.fixture(name="rows")
def _rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    return path


def test_hostile_worker_notes_are_shown_safely_on_the_load_screen(monkeypatch: pytest.MonkeyPatch, rows: Path) -> None:
    events = f"Noted({SHORT!r}), Progressed({PAYLOADS['markup'] + PAYLOADS['clear']!r}, 1)"
    monkeypatch.setattr(worker_run, "WORKER", talker(events))
    settings = ScoreSettings(DataSettings(str(rows)), ModelSettings(""))
    with Terminal(Bare(None, settings=settings)) as terminal:
        terminal.wait_for(lambda: "1 pairs" in terminal.text)
        terminal.click("#score", 3, 0)
        terminal.wait_for(lambda: "[@click=app.quit]quit[/]" in terminal.text and "esc stops" in terminal.text)
        assert dangers(terminal) == []
        terminal.press("escape")


def test_the_hostile_last_message_of_a_worker_is_shown_safely(monkeypatch: pytest.MonkeyPatch, rows: Path) -> None:
    monkeypatch.setattr(worker_run, "WORKER", talker(f"Failed({SHORT!r}, 2),"))
    settings = ScoreSettings(DataSettings(str(rows)), ModelSettings(""))
    with Terminal(Bare(None, settings=settings)) as terminal:
        terminal.wait_for(lambda: "1 pairs" in terminal.text)
        terminal.click("#score", 3, 0)
        terminal.wait_for(lambda: isinstance(terminal.app.screen, ErrorScreen))
        assert "␛[2J␛[4242;1Hcleared" in terminal.text
        assert dangers(terminal) == []


def test_the_strip_shows_a_hostile_failure_safely(paths: list[Path]) -> None:
    session = Session(load_ledger(paths[0]), PreferenceSettings())
    run = Scoring(ScoreSettings(DataSettings("rows.jsonl"), ModelSettings("")))
    with Terminal(Bare(session)) as terminal:
        main = terminal.app.screen
        assert isinstance(main, MainScreen)
        main.scoring = run
        run.hear(Failed(SHORT, 2))
        main.query_one(ScoringStrip).show_run(run)
        terminal.rest()
        assert terminal.lines[2].startswith(" ✗ ␛[2J␛[4242;1Hcleared")
        assert dangers(terminal) == []


def test_a_path_with_control_characters_is_not_suggested(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2J.jsonl").touch()
    with Terminal(Bare(None)) as terminal:
        terminal.type(f"{tmp_path}/a")
        terminal.sleep(0.2)
        terminal.press("right")
        assert terminal.app.screen.query_one("#data", Input).value == f"{tmp_path}/a"
        (tmp_path / "ab.jsonl").touch()
        terminal.type("b")
        terminal.sleep(0.2)
        terminal.press("right")
        assert terminal.app.screen.query_one("#data", Input).value == f"{tmp_path}/ab.jsonl"


def test_the_config_of_a_hostile_checkpoint_is_described_safely(tmp_path: Path, rows: Path) -> None:
    config = {"model_type": PAYLOADS["markup"] + PAYLOADS["clear"]}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    settings = ScoreSettings(DataSettings(str(rows)), ModelSettings(str(tmp_path)))
    with Terminal(Bare(None, settings=settings)) as terminal:
        terminal.wait_for(lambda: "✗ [/foo]" in terminal.text)
        terminal.click("#score", 3, 0)
        assert "policy: [/foo] [bold]x" in terminal.text
        assert dangers(terminal) == []


def test_a_ledger_name_that_is_not_utf_8_is_refused_with_a_message(tmp_path: Path) -> None:
    path = tmp_path / "name\udcff.parquet"
    path.touch()
    with pytest.raises(LedgerError, match=r"a ledger's name must be valid UTF-8\. Rename the file\."):
        load_ledger(path)


ODD: Mapping[str, tuple[Sequence[Mapping[str, float]], bool]] = {
    "no pair": ([], True),
    "one pair": ([{}], True),
    "no reference": ([{}, {"policy_chosen_logps": -9.0}], False),
    "no number": ([{"margin": float("nan")}] * 3, True),
}
ROUND = ["p", "p", "right", "enter", "2", "f", "escape", "s", "n", "end", "m", "escape", "space", "y", "enter", "t"]
ROUND += ["escape", "3", "p", "escape", "v", "d", "n", "J", "Y", "4", "L", "right", "enter", "5", "6", "v", "enter"]


@pytest.mark.parametrize("name", ODD)
def test_every_screen_of_an_odd_ledger_is_shown(tmp_path: Path, name: str) -> None:
    pairs, has_reference = ODD[name]
    session = write_pairs(tmp_path / "odd.parquet", pairs, has_reference=has_reference)
    with Terminal(Bare(session)) as terminal:
        for key in [*ROUND, "e"]:
            terminal.press(key)
            assert dangers(terminal) == []
        assert "export" in terminal.text


@pytest.mark.parametrize("name", ODD)
def test_no_figure_of_an_odd_ledger_is_nan(tmp_path: Path, name: str) -> None:
    pairs, has_reference = ODD[name]
    session = write_pairs(tmp_path / "odd.parquet", pairs, has_reference=has_reference)
    with Terminal(Bare(session)) as terminal:
        for key in "12456":
            terminal.press(key)
            assert "nan" not in terminal.text
