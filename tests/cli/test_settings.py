"""Flags override the environment, which overrides prefscope.toml, which overrides the defaults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from prefscope.cli.app import app
from prefscope.cli.config import HARMLESS

Program = Callable[..., tuple[int, str, str]]


@pytest.fixture
def beta(program: Program, ledger: Path) -> Callable[..., float]:
    """Return a function that gives the beta that a report with further options uses."""

    def used(*options: str) -> float:
        code, out, err = program("report", ledger, "--json", *options)
        assert code == 0, err
        return float(json.loads(out)["beta"])

    return used


def commands() -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    found: dict[str, Any] = command.commands
    return found


def options_of(name: str) -> set[str]:
    """Return the long options of a command without their dashes."""
    parameters = commands()[name].params
    return {option.removeprefix("--") for one in parameters for option in one.opts if option.startswith("--")}


def write_file(text: str) -> None:
    Path("prefscope.toml").write_text(text, encoding="utf-8")


def test_each_source_of_a_setting_overrides_the_next(
    beta: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [beta()]
    write_file("beta = 0.2\n")
    found.append(beta())
    monkeypatch.setenv("PREFSCOPE_BETA", "0.3")
    found.append(beta())
    found.append(beta("--beta", "0.4"))
    assert found == [0.1, 0.2, 0.3, 0.4]


def test_the_table_of_a_command_overrides_shared_settings(beta: Callable[..., float]) -> None:
    write_file("beta = 0.2\n[report]\nbeta = 0.3\n[export]\nbeta = 0.4\n")
    assert beta() == 0.3


def test_the_working_folders_file_overrides_the_users_own_key_by_key(
    program: Program, ledger: Path, own_settings: Callable[[str], Path]
) -> None:
    own_settings('beta = 0.7\nloss = "ipo_azar"\n')
    found = []
    for _ in range(2):
        report = json.loads(program("report", ledger, "--json")[1])
        found.append((report["beta"], [loss["name"] for loss in report["losses"]]))
        write_file("beta = 0.2\n")
    assert found == [(0.7, ["ipo_azar"]), (0.2, ["ipo_azar"])]


@pytest.mark.parametrize(
    "line",
    [
        *("trust-remote-code = true", "allow-pickle = true", 'output = "other.csv"', 'parts = "s3://bucket/run"'),
        *('cache = "elsewhere"', "clear = true", 'address = "ray://somewhere:10001"', 'engine = "ray"', "workers = 8"),
        *('policy = "org/model"', 'ref = "org/model"', 'base = "x"', 'tokenizer = "x"', 'chat-template = "x.jinja"'),
        *('revision = "main"', 'against = "/etc/passwd"', 'split = "test"', "no-cache = true", "tp = 2"),
    ],
)
def test_the_working_folders_file_cannot_load_write_delete_connect(program: Program, ledger: Path, line: str) -> None:
    option = line.partition(" ")[0]
    command = next(name for name in ("report", "score", "cache", "lint", "doctor") if option in options_of(name))
    for text in (f"{line}\n", f"[{command}]\n{line}\n"):
        write_file(text)
        code, out, err = program("report", ledger)
        assert (code, out) == (2, "")
        assert f"prefscope.toml: '{option}' cannot be set by a file in the working folder" in err


def test_every_harmless_setting_is_an_option_of_some_command() -> None:
    known = set().union(*(options_of(name) for name in commands()))
    assert known >= HARMLESS
    assert not HARMLESS & {
        "trust-remote-code",
        "allow-pickle",
        "output",
        "parts",
        "cache",
        "clear",
        "address",
        "policy",
    }


def test_the_users_own_file_can_set_everything(
    program: Program, samples: Path, own_settings: Callable[[str], Path], tmp_path: Path
) -> None:
    own_settings(
        f'[score]\npolicy = "{samples / "tiny-policy"}"\nref = "none"\noutput = "{tmp_path / "own.parquet"}"\n'
    )
    assert program("score", samples / "pairs.jsonl", "--limit", "2")[0] == 0
    assert (tmp_path / "own.parquet").is_file()


def test_a_command_ignores_settings_of_options_it_does_not_have(program: Program) -> None:
    write_file("beta = 0.2\n")
    assert program("cache", "--cache", "none")[0] == 0


def test_a_repeatable_option_is_a_list(program: Program, ledger: Path) -> None:
    write_file('loss = ["ipo_azar", "simpo:gamma=0.8"]\n')
    _, out, _ = program("report", ledger, "--json")
    assert [loss["name"] for loss in json.loads(out)["losses"]] == ["ipo_azar", "simpo"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("beto = 0.2\n", "prefscope.toml: there is no setting 'beto'. Did you mean 'beta'?"),
        ("[report]\nbeto = 0.2\n", "there is no setting 'beto'. Did you mean 'beta'?"),
        ("[repart]\nbeta = 0.2\n", "there is no setting 'repart'. Did you mean 'report'?"),
        ("xyzzy = 1\n", "Settings are named like the long options, without the dashes."),
        ("beta = \n", "prefscope.toml: this settings file cannot be read"),
    ],
    ids=["shared", "of a command", "a command", "far from any", "no TOML"],
)
def test_a_mistake_in_the_file_is_reported_with_the_nearest_name(
    program: Program, ledger: Path, text: str, message: str
) -> None:
    write_file(text)
    code, out, err = program("report", ledger)
    assert (code, out) == (2, "")
    assert message in err


def test_a_value_of_another_type_is_refused(program: Program, ledger: Path) -> None:
    write_file('beta = "much"\n')
    code, _, err = program("report", ledger)
    assert code == 2
    assert "beta" in err
