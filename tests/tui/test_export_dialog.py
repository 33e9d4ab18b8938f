"""The export dialog: what it suggests, refuses and writes, and the equivalent command line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from textual.events import Key
from textual.widgets import Input

from prefscope.ledger.marks import Decision, Mark
from prefscope.ledger.table import load_ledger
from prefscope.settings import LossChoice, PreferenceSettings
from prefscope.tui.app import PrefscopeApp
from prefscope.tui.dialogs import export as export_dialog
from prefscope.tui.dialogs.export import ExportDialog
from prefscope.tui.model.knobs import knobs
from prefscope.tui.model.session import Session, Sort
from tests.tui.pairs_app import write_pairs
from tests.tui.terminal import Terminal, assert_golden

pytestmark = pytest.mark.slow

Program = Callable[..., tuple[int, str, str]]
Show = Callable[..., Terminal]
MARKS: dict[int, Decision] = {3: "keep", 8: "drop", 46: "drop", 115: "swap"}
TO_ROWS, TO_FORM, TO_TICKS, TO_BUTTONS = (["tab"] * count for count in (1, 2, 3, 5))
"""Keys that lead from the path to the other fields."""


@pytest.fixture
def session(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """Return a session on a copy of the demo ledger in the working folder, with marks and a filter of wrong pairs."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(samples / "demo.parquet", "demo.parquet")
    session = Session(load_ledger(Path("demo.parquet")), PreferenceSettings())
    for position, decision in MARKS.items():
        session.set_marks({position: Mark(decision)})
    session.set_filter("margin < 0")
    return session


@pytest.fixture
def show() -> Iterator[Show]:
    """Return a function that opens the dialog on a session."""
    with ExitStack() as stack:

        def call(session: Session, size: tuple[int, int] = (120, 36)) -> Terminal:
            terminal = stack.enter_context(Terminal(PrefscopeApp(session), size))
            terminal.press("e")
            return terminal

        yield call


def dialog(terminal: Terminal) -> ExportDialog:
    screen = terminal.app.screen
    assert isinstance(screen, ExportDialog)
    return screen


def path_of(terminal: Terminal) -> str:
    return dialog(terminal).query_one(Input).value


def write(terminal: Terminal) -> str:
    """Write the file, and return the command line shown for it."""
    command = dialog(terminal).request.command
    dialog(terminal).query_one(Input).focus()
    terminal.press("enter")
    terminal.finish()
    return command


# The dialog


@pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=["80x24", "120x36"])
def test_the_dialog_matches_its_golden_file(session: Session, show: Show, size: tuple[int, int]) -> None:
    terminal = show(session, size)
    terminal.press(*TO_FORM, "down", "space")
    assert terminal.widths == {size[0]}
    assert_golden(terminal, "export")


@pytest.mark.parametrize("key", ["1", "2", "3", "4", "5"])
def test_e_opens_the_dialog_from_every_screen_and_esc_closes_it(session: Session, show: Show, key: str) -> None:
    terminal = show(session)
    terminal.press("escape", key, "e")
    assert path_of(terminal) == "demo-view.csv"
    terminal.press("escape")
    assert not isinstance(terminal.app.screen, ExportDialog)
    assert sorted(Path().iterdir()) == [Path("demo.marks.json"), Path("demo.parquet")]


def test_every_line_fits_the_smallest_terminal_and_the_buttons_are_in_view(session: Session, show: Show) -> None:
    terminal = show(session, (60, 16))
    assert terminal.widths == {60}
    assert "Export" in terminal.lines[13]


def test_the_suggested_file_follows_the_choices_until_it_is_changed(session: Session, show: Show) -> None:
    terminal = show(session)
    terminal.press(*TO_ROWS, "down", "space")
    assert path_of(terminal) == "demo-marked.csv"
    terminal.press("tab", "down", "space")
    assert path_of(terminal) == "demo-curated.jsonl"
    dialog(terminal).query_one(Input).focus()
    terminal.type("my.json")
    terminal.press(*TO_ROWS, "down", "space")
    assert path_of(terminal) == "my.json"


def test_enter_is_processed_after_the_keys_before_it(session: Session, show: Show) -> None:
    terminal = show(session)
    for character in "quick.csv":
        terminal.app.post_message(Key(character, character))
    terminal.app.post_message(Key("enter", "\r"))
    terminal.sleep(0.1)
    terminal.finish()
    assert Path("quick.csv").is_file()


def test_the_dialog_shows_how_many_pairs_are_written_dropped_and_swapped(session: Session, show: Show) -> None:
    terminal = show(session)
    assert "14 pairs in ledger order." in terminal.text
    terminal.press(*TO_FORM, "down", "space")
    assert "13 pairs, 1 dropped, 1 swapped." in terminal.text
    terminal.press("shift+tab", "down", "space")
    assert "2 pairs, 2 dropped, 1 swapped." in terminal.text
    terminal.press("down", "space")
    assert "168 pairs, 2 dropped, 1 swapped." in terminal.text


def test_the_command_is_copied_with_y_outside_the_field_and_by_its_button(session: Session, show: Show) -> None:
    terminal = show(session)
    terminal.type("y.csv")
    assert terminal.app.clipboard == ""
    terminal.press("tab", "y")
    assert terminal.app.clipboard == dialog(terminal).request.command
    assert terminal.app.clipboard.endswith(" -o y.csv")
    terminal.press("down", "space")
    terminal.click_text("Copy command")
    assert "--where 'mark(any)'" in terminal.app.clipboard


def test_hostile_names_and_expressions_are_shown_and_written_safely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, show: Show, program: Program
) -> None:
    monkeypatch.chdir(tmp_path)
    session = write_pairs(Path("-[b]x\x1b[31m'.parquet"), [{"prompt": "[/b]"}, {}])
    session.set_filter('prompt ~ "[/b]" and prompt !~ "\x1b$(x)\'"')
    terminal = show(session)
    assert "\x1b" not in terminal.text
    assert 'prompt ~ "[/b]"' in terminal.text
    terminal.type("-[b]$(x)'.csv")
    command = write(terminal)
    written = Path("-[b]$(x)'.csv")
    before = written.read_bytes()
    written.unlink()
    assert program(*shlex.split(command)[1:])[0] == 0
    assert written.read_bytes() == before
    assert before.count(b"\n") == 2


# The command line writes the very same file


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("view.csv", []),
        ("marked.tsv", [*TO_ROWS, "down", "space"]),
        ("all.parquet", [*TO_ROWS, "up", "space"]),
        ("texts.jsonl.gz", [*TO_TICKS, "space"]),
        ("weights.csv", [*TO_TICKS, "tab", "space"]),
        ("curated.jsonl", [*TO_FORM, "down", "space"]),
        ("all curated.parquet", [*TO_ROWS, "up", "space", "tab", "down", "space"]),
        ("curated marked.csv", [*TO_ROWS, "down", "space", "tab", "down", "space"]),
    ],
)
def test_the_command_line_writes_the_same_bytes(
    session: Session, show: Show, program: Program, name: str, keys: list[str]
) -> None:
    terminal = show(session)
    terminal.type(name)
    terminal.press(*keys)
    command = write(terminal)
    ours = Path(name).read_bytes()
    Path(name).unlink()
    assert program(*shlex.split(command)[1:])[0] == 0
    assert Path(name).read_bytes() == ours


def test_the_pairs_of_the_view_are_written_in_ledger_order(session: Session, show: Show, program: Program) -> None:
    session.set_sort(Sort("margins"))
    write(show(session))
    rows = [int(line.split(",")[0]) for line in Path("demo-view.csv").read_text(encoding="utf-8").splitlines()[1:]]
    assert rows == sorted(session.order.tolist())
    assert rows != session.order.tolist()
    program("export", "demo.parquet", "-o", "same.csv", "--where", "margin < 0")
    assert Path("demo-view.csv").read_bytes() == Path("same.csv").read_bytes()


def test_the_command_line_has_the_moved_knobs_whatever_the_defaults(
    session: Session, show: Show, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    for knob in knobs(session.view):
        session.set_preferences(knob.moved(session.preferences, 3))
    session.set_filter("simpo > 0.4 or dpo > 0.6")
    command = write(show(session))
    ours = Path("demo-view.csv").read_bytes()
    Path("prefscope.toml").write_text("beta = 3\nsimpo-gamma = 4\nloss = ['ipo_azar']\n")
    monkeypatch.setenv("PREFSCOPE_SIMPO_BETA", "7")
    assert program(*shlex.split(command)[1:])[0] == 0
    assert Path("demo-view.csv").read_bytes() == ours
    assert 1 < ours.count(b"\n") < 171


def test_the_command_line_has_the_requested_losses(session: Session, show: Show) -> None:
    losses = (LossChoice("ipo_azar", {"beta": 0.25}), LossChoice("simpo"))
    session.set_preferences(PreferenceSettings(beta=0.5, losses=losses, explicit=True))
    assert dialog(show(session)).request.command == (
        "prefscope export demo.parquet --where 'margin < 0' --beta 0.5 "
        "--loss ipo_azar:beta=0.25 --loss simpo:beta=2.0,gamma=0.5 -o demo-view.csv"
    )


def test_the_command_line_has_only_reference_free_losses_without_a_reference(
    tmp_path: Path, show: Show, program: Program
) -> None:
    session = write_pairs(tmp_path / "free.parquet", [{}, {}], has_reference=False)
    command = write(show(session))
    written = tmp_path / "free-view.csv"
    ours = written.read_bytes()
    assert "--beta 0.1 --loss simpo:beta=2.0,gamma=0.5 -o" in command
    assert program(*shlex.split(command)[1:])[0] == 0
    assert written.read_bytes() == ours


def test_an_empty_ledger_is_exported_as_a_header(tmp_path: Path, show: Show) -> None:
    write(show(write_pairs(tmp_path / "none.parquet", [])))
    assert (tmp_path / "none-view.csv").read_text(encoding="utf-8").count("\n") == 1


# Writing


def test_a_written_file_is_reported_with_its_number_of_pairs(
    session: Session, show: Show, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_dialog, "STARTED_SECONDS", 60)
    terminal = show(session)
    terminal.press("enter")
    terminal.wait_for(lambda: "Writing demo-view.csv" in terminal.text)
    terminal.finish()
    assert "14 pairs → demo-view.csv" in terminal.text
    assert not isinstance(terminal.app.screen, ExportDialog)


def test_enter_exports_from_any_field_and_presses_a_focused_button(session: Session, show: Show) -> None:
    terminal = show(session)
    terminal.press(*TO_BUTTONS, "tab", "enter")
    terminal.finish()
    assert not isinstance(terminal.app.screen, ExportDialog)
    assert not Path("demo-view.csv").exists()
    terminal.press("e", *TO_ROWS, "down", "enter")
    terminal.finish()
    assert Path("demo-view.csv").exists()


def test_a_curated_data_set_can_be_written_with_the_mouse(session: Session, show: Show) -> None:
    terminal = show(session, (80, 24))
    terminal.click_text("all 170")
    terminal.click_text("curated data set")
    terminal.click_text("Export ")
    terminal.finish()
    lines = Path("demo-curated.jsonl").read_text(encoding="utf-8").splitlines()
    sources = [json.loads(session.ledger.pair(position)["source_json"]) for position in range(170)]
    sources[115] |= {"chosen": sources[115]["rejected"], "rejected": sources[115]["chosen"]}
    assert [json.loads(line) for line in lines] == [row for at, row in enumerate(sources) if at not in {8, 46}]


def test_a_second_enter_replaces_an_existing_file(session: Session, show: Show) -> None:
    Path("demo-view.csv").write_text("as it was")
    terminal = show(session)
    assert "⚠ This file exists: you will be asked before it is replaced." in terminal.text
    terminal.press("enter")
    assert "⚠ This file exists: press enter again to replace it." in terminal.text
    assert "Replace" in terminal.text
    assert Path("demo-view.csv").read_text() == "as it was"
    terminal.press("enter")
    terminal.finish()
    assert Path("demo-view.csv").read_text(encoding="utf-8").count("\n") == 15


def test_changing_a_choice_requires_a_new_confirmation(session: Session, show: Show) -> None:
    for name in ("demo-view.csv", "demo-marked.csv"):
        Path(name).write_text("as it was")
    terminal = show(session)
    terminal.press("enter", *TO_ROWS, "down", "space", "shift+tab")
    assert "you will be asked before it is replaced" in terminal.text
    terminal.press("enter")
    assert [Path(name).read_text() for name in ("demo-view.csv", "demo-marked.csv")] == ["as it was"] * 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pairs.txt", "✗ No format has the suffix of 'pairs.txt'. Use one of .csv, .tsv, .jsonl, .csv.gz,"),
        ("nowhere/pairs.csv", "✗ nowhere: this folder does not exist. Create it, or choose another."),
        ("~no one/pairs.csv", "✗ ~no one: this folder does not exist. Create it, or choose another."),
        ("demo.parquet", "✗ demo.parquet: this is the ledger itself. Choose another name."),
        ("folder.csv", "✗ folder.csv: this is a folder. Add the name of a file in it."),
        (" ", "✗ Enter a file name. For example pairs.csv."),
        ("x" * 300 + ".csv", "✗ This path cannot be used (File name too long). Choose another."),
    ],
)
def test_an_invalid_path_is_reported_below_it_and_nothing_is_written(
    session: Session, show: Show, name: str, told: str
) -> None:
    Path("folder.csv").mkdir()
    before = Path("demo.parquet").read_bytes()
    terminal = show(session)
    dialog(terminal).query_one(Input).value = name
    terminal.rest()
    assert told in " ".join(line.strip(" │") for line in terminal.lines)
    terminal.press("enter", *TO_BUTTONS, "tab", "tab", "enter")
    assert isinstance(terminal.app.screen, ExportDialog)
    assert sorted(path.name for path in Path().iterdir()) == ["demo.marks.json", "demo.parquet", "folder.csv"]
    assert Path("demo.parquet").read_bytes() == before


@pytest.mark.parametrize("what", ["marks", "scopes"])
def test_a_curated_data_set_does_not_replace_what_is_kept_beside_the_ledger(
    session: Session, show: Show, what: str
) -> None:
    session.name_scope("wrong", "margin < 0")
    terminal = show(session)
    terminal.press(*TO_FORM, "down", "space")
    dialog(terminal).query_one(Input).value = f"demo.{what}.json"
    terminal.rest()
    assert f"✗ demo.{what}.json: this is the file of the ledger's {what}. Choose another name." in terminal.text


def test_a_curated_data_set_without_pairs_is_refused(session: Session, show: Show) -> None:
    session.set_filter("mark(drop)")
    terminal = show(session)
    terminal.press(*TO_FORM, "down", "space")
    assert "✗ No pair is left to write." in terminal.text


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everywhere")
def test_no_file_is_suggested_in_a_folder_without_write_permission(session: Session, show: Show) -> None:
    folder = Path("locked")
    folder.mkdir()
    shutil.copy(session.ledger.path, folder)
    folder.chmod(0o500)
    try:
        terminal = show(Session(load_ledger(folder / "demo.parquet"), PreferenceSettings()))
        assert path_of(terminal) == "demo-view.csv"
        dialog(terminal).query_one(Input).value = "locked/x.csv"
        terminal.rest()
        assert "✗ locked: no permission to write to this folder. Choose another." in terminal.text
    finally:
        folder.chmod(0o700)


def test_a_row_that_cannot_be_swapped_is_reported_and_the_app_keeps_running(tmp_path: Path, show: Show) -> None:
    session = write_pairs(tmp_path / "odd.parquet", [{}, {}])
    session.set_marks({1: Mark("swap")})
    terminal = show(session)
    terminal.press(*TO_FORM, "down", "space")
    write(terminal)
    assert "line 2, pair 0000000000000001: this row cannot be" in terminal.text
    assert "swapped (no known preference layout)." in terminal.text
    assert not (tmp_path / "odd-curated.jsonl").exists()
    terminal.press("e")
    assert isinstance(terminal.app.screen, ExportDialog)


def test_a_ledger_that_was_deleted_meanwhile_is_reported(session: Session, show: Show) -> None:
    terminal = show(session)
    Path("demo.parquet").unlink()
    write(terminal)
    assert "demo.parquet: there is no such ledger." in terminal.text
    assert not Path("demo-view.csv").exists()
