"""Every command and option is explained, help fits a terminal, and options are grouped under headings."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import typer

import prefscope
from prefscope.cli.app import app
from prefscope.cli.panels import OPTIONS, PANELS

Program = Callable[..., tuple[int, str, str]]
ROOT: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {
    f"{name} {own}".strip(): one
    for name, command in ROOT.commands.items()
    for own, one in {"": command, **getattr(command, "commands", {})}.items()
}
PARAMETERS = [(name, parameter) for name, command in COMMANDS.items() for parameter in command.params]
WITHOUT_PANEL = {"cache": ["--clear"], "parts verify": ["--delete"], "parts merge": ["--run"]}
"""Options that only one command has and that fit no heading."""


def test_the_documented_commands_exist() -> None:
    assert {"score", "report", "export", "curate", "losses", "cache", "help"} <= set(ROOT.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_explained_in_a_sentence(name: str) -> None:
    first = COMMANDS[name].help.split("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^\n]*[.:]?.*\.", first, re.DOTALL)


@pytest.mark.parametrize(
    ("command", "parameter"), PARAMETERS, ids=[f"{name} {parameter.name}" for name, parameter in PARAMETERS]
)
def test_an_option_is_explained(command: str, parameter: Any) -> None:
    assert parameter.help, command
    assert parameter.help.strip().endswith((".", ")")), parameter.help


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_option(program: Program, name: str) -> None:
    code, out, _ = program(*name.split(), "--help")
    options = [option for parameter in COMMANDS[name].params for option in parameter.opts if option[0] == "-"]
    assert code == 0
    assert [option for option in options if option not in out] == []


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_is_plain_text_of_80_columns_and_a_panel_fits_a_screen(program: Program, name: str) -> None:
    out = program(*name.split(), "--help")[1]
    assert max(map(len, out.splitlines())) < 80
    assert "\x1b" not in out
    assert max(block.count("\n") for block in out.split("\n\n")) < 24


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_under_a_known_heading(name: str) -> None:
    options = [parameter for parameter in COMMANDS[name].params if parameter.param_type_name == "option"]
    panels = {max(one.opts, key=len): one.rich_help_panel for one in options}
    assert [option for option, panel in panels.items() if panel is None] == WITHOUT_PANEL.get(name, [])
    assert {panel for panel in panels.values() if panel} <= {*PANELS} - {OPTIONS}


def test_the_options_of_score_are_grouped(program: Program) -> None:
    headings = re.findall(r"^([A-Z][a-z]+):$", program("score", "--help")[1], re.MULTILINE)
    assert headings == [
        *("Arguments", "Data", "Models", "Tokenization", "Losses", "Output", "Compute", "Scale", "Options"),
    ]


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []], ids=["long", "short", "help", "nothing"])
def test_help_lists_every_command_with_its_whole_summary(program: Program, arguments: list[str]) -> None:
    code, out, _ = program(*arguments)
    assert code == 0
    assert [name for name in ROOT.commands if f"\n  {name} " not in out] == []
    assert "..." not in out.replace("[ARGS]...", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_what_its_help_option_prints(program: Program, name: str) -> None:
    assert program("help", *name.split()) == program(*name.split(), "--help")


def test_the_version_is_the_packages(program: Program) -> None:
    assert program("--version") == (0, f"prefscope {prefscope.__version__}\n", "")
