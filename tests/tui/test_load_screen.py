"""The load screen offers what the command line does, and says what is wrong before a run starts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList

from prefscope.folders import demo_ledgers, sample_data
from prefscope.ledger.marks import Mark, load_marks
from prefscope.ledger.preferences import read_preferences
from prefscope.settings import DataSettings, ModelSettings, PreferenceSettings, ScoreSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.model.run_form import RunRequest
from prefscope.tui.model.state import Opened, Remembered, recall, remember
from prefscope.tui.screens.load import LoadScreen
from prefscope.tui.screens.main import MainScreen
from tests.tui.terminal import Terminal

pytestmark = pytest.mark.slow


@pytest.fixture(name="folder", autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Work in a folder with two checkpoints, with a data folder of its own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("tiny-policy", "tiny-ref"):
        shutil.copytree(sample_data() / name, name)
    return tmp_path / "work"


@pytest.fixture(name="terminal")
def _terminal() -> Iterator[Terminal]:
    settings = ScoreSettings(DataSettings(str(sample_data() / "pairs.jsonl")), ModelSettings(""))
    with Terminal(PrefscopeApp(None, settings=settings), (80, 24)) as terminal:
        terminal.wait_for(lambda: "170 pairs" in terminal.text)
        yield terminal


def fill(terminal: Terminal, **texts: str) -> None:
    """Set the texts of fields, inside the app's event loop."""

    async def change() -> None:
        for name, text in texts.items():
            terminal.app.screen.query_one(f"#{name.replace('_', '-')}", Input).value = text

    terminal._runner.run(change())
    terminal.rest()


def focus(terminal: Terminal, name: str) -> None:
    async def move() -> None:
        terminal.app.screen.query_one(f"#{name}").focus()

    terminal._runner.run(move())
    terminal.rest()


def screen(terminal: Terminal) -> LoadScreen:
    assert isinstance(terminal.app.screen, LoadScreen)
    return terminal.app.screen


def test_all_fields_are_shown_at_80_by_24_after_f2(terminal: Terminal) -> None:
    terminal.press("f2")
    for label in ("base", "output", "loss", "beta", "limit", "sample", "workers", "device", "dtype", "max length"):
        assert f" {label} " in terminal.text, label
    assert "batch tokens" in terminal.text
    assert "estimate" in terminal.text
    assert "Score" in terminal.text
    assert terminal.widths == {80}
    terminal.press("f2")
    assert "batch tokens" not in terminal.text


def test_the_fields_become_the_settings_that_the_options_would(terminal: Terminal) -> None:
    fill(terminal, limit="5", sample="4", workers="2", batch_tokens="300", max_length="64", dtype="float32")
    fill(
        terminal,
        policy="tiny-policy",
        ref="tiny-ref",
        base="~/x",
        output="out.parquet",
        beta="0.3",
        loss="dpo ipo:beta=1",
    )
    request = screen(terminal)._read(screen(terminal)._texts())
    settings = request.settings
    assert (settings.data.limit, settings.data.sample, settings.dispatch.workers) == (5, 4, 2)
    assert (settings.compute.batch_tokens, settings.tokenization.max_length) == (300, 64)
    assert (settings.models.policy, settings.models.ref, settings.models.dtype) == (
        "tiny-policy",
        "tiny-ref",
        "float32",
    )
    assert settings.models.base == str(Path("~/x").expanduser())
    assert request.ledger == Path("out.parquet")
    assert request.preferences.beta == 0.3
    assert [(one.name, dict(one.parameters)) for one in request.preferences.losses] == [
        ("dpo", {}),
        ("ipo", {"beta": 1.0}),
    ]
    assert request.preferences.explicit


def test_unchanged_fields_change_nothing() -> None:
    request = RunRequest(ScoreSettings(DataSettings("x"), ModelSettings("p", "r")), None, PreferenceSettings(beta=0.2))
    assert request.changed(request.texts(), skip_bad_rows=False) == request


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ("limit", "0", "Limit '0' is not a whole number above 0. Or leave it empty."),
        ("workers", "two", "Workers 'two' is not a whole number above 0. Or leave it empty."),
        ("dtype", "int8", "There is no dtype 'int8'."),
        ("beta", "high", "Beta high is not a number. For example 0.1."),
        ("loss", "dpoo", "dpoo"),
        ("output", "rows.csv", "rows.csv: only a ledger can be written from the screens."),
    ],
)
def test_a_wrong_value_is_reported_at_once_and_keeps_a_run_from_starting(
    terminal: Terminal, field: str, text: str, told: str
) -> None:
    fill(terminal, **{field: text})
    terminal.wait_for(lambda: "✗" in terminal.text)
    assert told in " ".join(terminal.text.split())
    terminal.press("ctrl+j")
    assert screen(terminal).scoring is None


def test_the_estimate_follows_the_limit(terminal: Terminal) -> None:
    assert "estimate   about 38" in terminal.text
    fill(terminal, limit="1")
    terminal.wait_for(lambda: "estimate   about 38" not in terminal.text)
    assert "tokens, 2.41 MB per model" in terminal.text


def test_checkpoints_nearby_are_offered_and_fill_in_the_field(terminal: Terminal) -> None:
    terminal.press("tab")
    terminal.wait_for(lambda: "checkpoints nearby" in terminal.text)
    assert "tiny-ref" in terminal.text
    terminal.press("down", "enter")
    assert terminal.app.screen.query_one("#policy", Input).value == "tiny-policy"
    assert terminal.app.focused is terminal.app.screen.query_one("#policy", Input)


def test_exchanged_models_are_refused_and_f3_exchanges_them(terminal: Terminal, folder: Path) -> None:
    lora = folder / "lora"
    lora.mkdir()
    config = {"peft_type": "LORA", "base_model_name_or_path": str(folder / "tiny-ref")}
    (lora / "adapter_config.json").write_text(json.dumps(config))
    fill(terminal, policy="tiny-ref", ref="lora")
    terminal.wait_for(lambda: "F3 exchanges them" in " ".join(terminal.text.split()))
    terminal.press("ctrl+j")
    assert screen(terminal).scoring is None
    terminal.press("f3")
    assert terminal.app.screen.query_one("#policy", Input).value == "lora"
    terminal.wait_for(lambda: "✓ LoRA adapter" in terminal.text)


def test_a_ledger_as_data_set_is_opened_by_ctrl_enter_with_the_beta_of_the_field(terminal: Terminal) -> None:
    fill(terminal, data=str(demo_ledgers()[0]), beta="0.25")
    terminal.wait_for(lambda: "it is opened, not scored" in terminal.text)
    terminal.press("ctrl+enter")
    assert isinstance(terminal.app.screen, MainScreen)
    assert terminal.app.screen.session.preferences.beta == 0.25


def test_s_starts_outside_of_fields_and_is_a_letter_inside(terminal: Terminal) -> None:
    fill(terminal, data="")
    focus(terminal, "data")
    terminal.press("s")
    assert terminal.app.screen.query_one("#data", Input).value == "s"
    fill(terminal, data=str(demo_ledgers()[0]))
    focus(terminal, "demo")
    terminal.press("s")
    assert isinstance(terminal.app.screen, MainScreen)


def test_marks_on_the_demo_are_written_to_a_copy_of_the_users_own(terminal: Terminal, tmp_path: Path) -> None:
    before = sorted(sample_data().iterdir())
    terminal.click("#demo", 3, 0)
    terminal.wait_for(lambda: isinstance(terminal.app.screen, MainScreen))
    terminal.press("2", "space")
    assert len(load_marks(tmp_path / "data" / "prefscope" / "demo" / "demo.parquet")) == 1
    assert sorted(sample_data().iterdir()) == before


def test_a_damaged_copy_of_the_demo_is_replaced_and_its_marks_stay() -> None:
    first, second = demo_ledgers()
    load_marks(first).change({("a", 0): Mark("keep")})
    second.write_bytes(b"damaged")
    assert demo_ledgers() == [first, second]
    assert second.read_bytes() == (sample_data() / second.name).read_bytes()
    assert len(load_marks(first)) == 1


def test_the_first_mark_creates_the_folder_of_a_new_user(tmp_path: Path) -> None:
    ledger = tmp_path / "new" / "ledgers" / "run.parquet"
    load_marks(ledger).change({("a", 0): Mark("keep")})
    assert len(load_marks(ledger)) == 1


def test_what_was_opened_is_listed_once_the_latest_first_and_without_what_is_gone(folder: Path) -> None:
    for name in ("a.parquet", "b.parquet"):
        shutil.copy(sample_data() / "demo.parquet", name)
    state = Remembered()
    for name in ("a.parquet", "b.parquet", "gone.parquet", str(folder / "a.parquet"), "org/data"):
        state = state.with_opened(Opened(name))
    remember(state)
    assert [one.data for one in recall().still_there] == [
        "org/data",
        str(folder / "a.parquet"),
        str(folder / "b.parquet"),
    ]
    with Terminal(PrefscopeApp(None), (120, 36)) as terminal:
        terminal.wait_for(lambda: "recently opened" in terminal.text)
        assert terminal.app.screen.query_one(OptionList).option_count == 3


def test_a_ledger_named_on_the_command_line_is_remembered(folder: Path) -> None:
    from prefscope.ledger.table import load_ledger
    from prefscope.tui.model.session import Session

    shutil.copy(sample_data() / "demo.parquet", "mine.parquet")
    with Terminal(PrefscopeApp(Session(load_ledger("mine.parquet"), PreferenceSettings())), (80, 24)):
        assert [one.data for one in recall().opened] == [str(folder / "mine.parquet")]


def test_other_losses_keep_the_configured_simpo_parameters() -> None:
    configured = read_preferences(0.1, 2.5, 1.4, None, weights=False)
    request = RunRequest(ScoreSettings(DataSettings("x"), ModelSettings("p", "r")), None, configured)
    changed = request.changed({**request.texts(), "loss": "simpo dpo"}, skip_bad_rows=False)
    assert [choice.parameters for choice in changed.preferences.losses] == [{"beta": 2.5, "gamma": 1.4}, {}]
