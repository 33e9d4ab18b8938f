"""Defaults from `prefscope.toml` in the working folder, which overrides the one in the user's configuration folder.

The working folder may be somebody else's (a cloned repository, a downloaded data set), so its file can set only
harmless preferences. Anything that loads, runs, writes, deletes or connects must come from a flag, the environment or
the user's own file.

beta = 0.05              # for every command that has the option
[score]
batch-tokens = 8192      # for one command
[keys]
pairs-sort = "f5"        # for the screens: keys by action id
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from prefscope.cli.options import POLICY_VARIABLE
from prefscope.errors import UNREADABLE, UsageError

FILE = "prefscope.toml"
KEYS = "keys"
HARMLESS = frozenset(
    [
        *("beta", "simpo-beta", "simpo-gamma", "loss", "weights", "diagnosis", "by", "where", "json", "fail-on"),
        *("theme", "palette", "ascii", "mouse"),
        *("format", "limit", "sample", "seed", "pairs", "every", "skip-bad-rows", "texts", "no-tokens", "noise-floor"),
        *("max-length", "truncation", "profile", "batch-tokens", "threads", "no-fused", "dtype", "attn", "device"),
    ]
)
"""Options that the working folder's file may set; a new option is refused there until it is added here."""


def load_defaults(context: typer.Context) -> dict[str, Any]:
    """Return click's default map: the option values of every command.

    Raises:
        UsageError: A file is not valid TOML, sets an unknown option, or sets one that it may not.
    """
    defaults: dict[str, Any] = {}
    for path, content in _read():
        options = {key: value for key, value in content.items() if key != KEYS}
        found = _defaults_of(context, options, path) if options else {}
        if path == Path(FILE):
            _refuse_harmful(options)
        for command, values in found.items():
            defaults[command] = {**defaults.get(command, {}), **values}
    return _with_policy(defaults)


def _with_policy(defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults with the policy from the environment, which overrides the files'."""
    if policy := os.environ.get(POLICY_VARIABLE):
        defaults["score"] = {**defaults.get("score", {}), "policy": [policy]}
    return defaults


def _defaults_of(context: typer.Context, content: dict[str, Any], path: Path) -> dict[str, Any]:
    commands = getattr(context.command, "commands", {})
    options = {
        name: {
            option.removeprefix("--"): str(p.name) for p in command.params for option in p.opts if option[:2] == "--"
        }
        for name, command in commands.items()
    }
    shared = {key: value for key, value in content.items() if not isinstance(value, dict)}
    defaults: dict[str, Any] = {}
    for name, known in options.items():
        table = content.get(name)
        own = table if isinstance(table, dict) else {}  # `cache` and `parts` are also options
        _check(own, known, path)
        repeatable = {str(p.name) for p in commands[name].params if p.multiple}
        values = {known[key]: value for key, value in {**shared, **own}.items() if key in known}
        _check_kinds(values, commands[name].params, path)
        defaults[name] = {
            key: [value] if key in repeatable and isinstance(value, str) else value for key, value in values.items()
        }
    _check(shared, {key: key for known in options.values() for key in known}, path)
    _check({key: value for key, value in content.items() if isinstance(value, dict)}, dict.fromkeys(commands, ""), path)
    return defaults


def _check_kinds(values: dict[str, Any], parameters: list[Any], path: Path) -> None:
    """Check that values have the type of their option; `cache = true`, for example, is not a folder.

    Raises:
        UsageError: A switch is not true or false, another option is, or a whole number has a fraction.
    """
    kinds = {str(parameter.name): parameter for parameter in parameters}
    for key, value in values.items():
        switch = bool(kinds[key].is_flag)
        whole = getattr(getattr(kinds[key], "type_descriptor", None), "annotation", None) is int
        if isinstance(value, bool) != switch or (whole and isinstance(value, float)):
            option = max(kinds[key].opts, key=len)
            wanted = "true or false" if switch else "a whole number" if whole else "a text or a number"
            raise UsageError(f"The value of {option[2:]!r} is {value!r}, not {wanted}", where=str(path))


def load_keys() -> dict[str, Any]:
    """Return the keys of the screens by action id; the screens check them.

    Raises:
        UsageError: A file is not valid TOML, or its `keys` is not a table.
    """
    merged: dict[str, Any] = {}
    for path, content in _read():
        keys = content.get(KEYS, {})
        if not isinstance(keys, dict):
            raise UsageError(
                f"{KEYS!r} is not a table", where=str(path), hint=f'Write [{KEYS}], then pairs-sort = "f5".'
            )
        merged |= keys
    return merged


def _read() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the path and content of each settings file that exists, the user's own before the working folder's.

    Raises:
        UsageError: One is not valid TOML.
    """
    own = _own_file()
    for path in (own, Path(FILE)):
        if not path.is_file() or (path != own and own.is_file() and path.samefile(own)):
            continue
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, *UNREADABLE) as error:
            raise UsageError(
                f"This settings file cannot be read ({error})", where=str(path), hint="Correct or remove it."
            ) from error
        yield path, content


def _own_file() -> Path:
    import platformdirs

    return platformdirs.user_config_path("prefscope") / FILE


def _refuse_harmful(content: dict[str, Any]) -> None:
    """Check that a file that somebody else may have written sets harmless options only.

    Raises:
        UsageError: It sets another one.
    """
    tables = [content, *(value for value in content.values() if isinstance(value, dict))]
    names = [key for table in tables for key, value in table.items() if not isinstance(value, dict)]
    harmful = next((key for key in names if key not in HARMLESS), None)
    if harmful is not None:
        raise UsageError(
            f"{harmful!r} cannot be set by a file in the working folder, which somebody else may have written",
            where=FILE,
            hint=f"Pass --{harmful}, or set it in your own {_own_file()}.",
        )


def _check(names: dict[str, Any], known: dict[str, str], path: Path) -> None:
    for key in names:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f"There is no setting {key!r}",
                where=str(path),
                hint=f"Did you mean {near[0]!r}?"
                if near
                else "Settings are named like the long options, without the dashes.",
            )
