"""Every command and every option says what it is for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import typer

import prefscope
from prefscope.cli.app import app

Program = Callable[..., tuple[int, str, str]]
ROOT: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {
    f"{name} {own}".strip(): one
    for name, command in ROOT.commands.items()
    for own, one in {"": command, **getattr(command, "commands", {})}.items()
}
PARAMETERS = [(name, parameter) for name, command in COMMANDS.items() for parameter in command.params]


def test_the_commands_are_those_of_the_contract() -> None:
    assert {"score", "report", "export", "curate", "losses", "cache"} <= set(ROOT.commands)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_in_a_sentence_what_it_does(name: str) -> None:
    first = COMMANDS[name].help.split("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^\n]*[.:]?.*\.", first, re.DOTALL)


@pytest.mark.parametrize(
    ("command", "parameter"), PARAMETERS, ids=[f"{name} {parameter.name}" for name, parameter in PARAMETERS]
)
def test_an_option_says_what_it_is_for(command: str, parameter: Any) -> None:
    assert parameter.help, command
    assert parameter.help.strip().endswith((".", ")")), parameter.help


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_option(program: Program, name: str) -> None:
    code, out, _ = program(*name.split(), "--help")
    options = [option for parameter in COMMANDS[name].params for option in parameter.opts if option[0] == "-"]
    assert code == 0
    assert [option for option in options if option not in out] == []


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []], ids=["long", "short", "nothing given"])
def test_help_lists_every_command(program: Program, arguments: list[str]) -> None:
    code, out, _ = program(*arguments)
    assert code == 0
    assert [name for name in ROOT.commands if f"\n  {name} " not in out] == []


def test_the_version_is_the_packages(program: Program) -> None:
    assert program("--version") == (0, f"prefscope {prefscope.__version__}\n", "")
