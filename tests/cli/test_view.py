"""`prefscope view` and `demo` on a pseudo-terminal, and their error without a terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.pseudo_terminal import PseudoTerminal
from tests.tui.pairs_app import write_pairs

pytestmark = pytest.mark.slow


@pytest.fixture
def home(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return environment | {f"XDG_{name}_HOME": str(tmp_path / name) for name in ("CACHE", "CONFIG", "DATA", "STATE")}


def test_the_demo_is_painted_and_q_ends_it(home: dict[str, str]) -> None:
    screen = PseudoTerminal(["demo"], home)
    screen.wait_for("91.2%")
    screen.press("2")
    screen.wait_for("margin_b")
    screen.press("q")
    assert screen.end() == 0


def test_a_ledger_is_shown_with_the_requested_beta_and_losses(home: dict[str, str], ledger: Path) -> None:
    screen = PseudoTerminal(["view", str(ledger), "--beta", "0.3", "--ascii"], home)
    screen.wait_for("b=0.3")
    screen.press("q")
    assert screen.end() == 0
    assert "β".encode() not in screen.written


@pytest.mark.parametrize("command", ["view", "demo"])
def test_without_a_terminal_the_report_is_named(
    program: Callable[..., tuple[int, str, str]], ledger: Path, command: str
) -> None:
    code, out, message = program(command, *([ledger] if command == "view" else []))
    assert (code, out) == (2, "")
    assert message.startswith(
        "prefscope: The screens need a terminal. To write to a pipe or a file, use prefscope report "
    )


def test_a_file_that_is_not_a_ledger_is_refused_before_the_screen_is_taken_over(
    home: dict[str, str], samples: Path
) -> None:
    screen = PseudoTerminal(["view", str(samples / "pairs.jsonl")], home)
    assert screen.end() == 2
    assert b"not a complete Parquet file" in screen.written
    assert b"\x1b[?1049h" not in screen.written


def test_ledgers_of_the_same_pairs_are_compared(home: dict[str, str], samples: Path) -> None:
    screen = PseudoTerminal(["view", *(str(samples / name) for name in ("demo-early.parquet", "demo.parquet"))], home)
    screen.wait_for("74.1%")
    screen.press("5")
    screen.wait_for("McNemar")
    screen.press("q")
    assert screen.end() == 0


def test_the_look_of_the_screens_comes_from_the_settings_file(home: dict[str, str]) -> None:
    Path("prefscope.toml").write_text('theme = "nord"\nascii = true\n[demo]\npalette = "mono"\n[keys]\nquit = "Q"\n')
    screen = PseudoTerminal(["demo"], home)
    screen.wait_for("91.2%")
    screen.press("Q")
    assert screen.end() == 0
    assert "β".encode() not in screen.written
    assert b"46;52;64" in screen.written  # nord's background
    assert b"228;230;232" in screen.written  # what is positive, without colours


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[keys]\npairs-sart = "f5"\n', "no binding has the id 'pairs-sart'. Similar ids: 'pairs-sort'"),
        ('[keys]\npairs-sort = "e"\n', "pairs-sort and export would have the same key 'e'"),
        ('theme = "nord2"\n', "There is no theme 'nord2'. Did you mean 'nord'?"),
        ('palette = "beige"\n', "'beige' is not one of 'sky-orange', 'blue-red', 'mono'"),
        ('keys = "f5"\n', "'keys' is not a table"),
    ],
    ids=["unknown key", "clash", "theme", "palette", "no table"],
)
def test_a_mistake_in_the_settings_file_is_reported_before_the_screen_is_taken_over(
    home: dict[str, str], text: str, message: str
) -> None:
    Path("prefscope.toml").write_text(text)
    screen = PseudoTerminal(["demo"], home)
    assert screen.end() == 2
    assert message.encode() in b" ".join(screen.written.split())
    assert b"\x1b[?1049h" not in screen.written


def test_an_option_overrides_the_environment_which_overrides_the_settings_file(home: dict[str, str]) -> None:
    Path("prefscope.toml").write_text('theme = "nord"\n')
    for options, background in (([], b"40;42;54"), (["--theme", "prefscope-light"], b"250;250;250")):
        screen = PseudoTerminal(["demo", *options], home | {"PREFSCOPE_THEME": "dracula"})
        screen.wait_for("Quit")
        screen.press("q")
        assert screen.end() == 0
        assert background in screen.written


def test_a_ledger_named_twice_is_refused_before_the_screen_is_taken_over(home: dict[str, str], samples: Path) -> None:
    screen = PseudoTerminal(["view", str(samples / "demo.parquet"), str(samples / "." / "demo.parquet")], home)
    assert screen.end() == 2
    assert b"this ledger is named twice. Name each ledger only once." in screen.written
    assert b"\x1b[?1049h" not in screen.written


def test_a_loss_that_cannot_be_computed_is_refused_before_the_screen_is_taken_over(
    home: dict[str, str], ledger: Path, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "free.parquet", [{}], has_reference=False)
    screen = PseudoTerminal(["view", str(ledger), str(tmp_path / "free.parquet"), "--loss", "dpo"], home)
    assert screen.end() == 2
    assert b"free.parquet: loss dpo needs a reference, which this ledger does not have." in b" ".join(
        screen.written.split()
    )
    assert b"\x1b[?1049h" not in screen.written


def test_a_lost_terminal_ends_the_program(home: dict[str, str]) -> None:
    screen = PseudoTerminal(["demo"], home)
    screen.wait_for("accuracy")
    screen.hang_up()
    assert screen.process.wait(60) in {0, 3}  # 3: something that was left for the terminal could not be written
