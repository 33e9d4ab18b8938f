"""`prefscope help`, and suggestions for mistyped commands and options."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from prefscope.errors import UsageError

MOST_FILES = 10_000
"""Limit of file names that a mistyped word is compared with."""


def help_(
    context: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="Command to explain; without it, all are listed.", show_default=False),
    ] = None,
) -> None:
    """Show the help of a command, as --help does."""
    shown: Any = context.find_root()
    for name in command or []:
        commands = getattr(shown.command, "commands", {})
        if name not in commands:
            raise UsageError(f"No command is named {name!r}", hint=suggestion(name, commands))
        shown = typer.Context(commands[name], info_name=name, parent=shown)
    typer.echo(shown.get_help())


def suggestion(word: str, names: Iterable[str]) -> str:
    """Return a hint: the name most like a word, or where commands are listed."""
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return "Check the path." if Path(word).suffix else "Run prefscope --help for a list of commands."


def refuse_mistyped(word: str, commands: Iterable[str]) -> None:
    """Check that the first word of a command line can be a command or a data set.

    Raises:
        UsageError: It is not a command, and no file, pattern or data set id has that name.
    """
    path = Path(word)
    if word in commands or word[:1] == "-" or {"/", "*", "?"} & {*word} or path.expanduser().exists():
        return
    raise UsageError(f"No command or file is named {word!r}", hint=suggestion(word, [*commands, *_files()]))


def _files() -> list[str]:
    """Return names in the working folder, if it can be read."""
    with suppress(OSError):
        return [entry.name for entry in islice(Path().iterdir(), MOST_FILES)]
    return []


def usage_message(error: typer.TyperException) -> str:
    """Return what typer objects to in a command line, the most similar option, and which help to read."""
    message = error.format_message()
    options = {option.lstrip("-"): option for option in getattr(error, "possibilities", None) or ()}
    if options:
        message = str(getattr(error, "message", message))
        near = difflib.get_close_matches(str(getattr(error, "option_name", "")).lstrip("-"), options, n=1)
        message += f". Did you mean {options[near[0]]}?" if near else ""
    context = getattr(error, "ctx", None)
    command = "prefscope" if context is None else context.command_path
    return f"{message if message.endswith(('.', '?')) else f'{message}.'} See {command} --help."
