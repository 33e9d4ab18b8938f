"""Defaults from `prefscope.toml`: in the working folder, else in the user's config folder.

beta = 0.05              # for every command that has the option
[score]
batch-tokens = 8192      # for one command
[keys]
pairs-sort = "f5"        # for the screens: other keys, by the ids of what they do
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

import typer

from prefscope.cli.options import POLICY_VARIABLE
from prefscope.errors import UsageError

FILE = "prefscope.toml"
KEYS = "keys"


def load_defaults(context: typer.Context) -> dict[str, Any]:
    """Return click's default map: a table of option values for every command.

    Raises:
        UsageError: The file is no TOML, or names an option that no command has.
    """
    path, content = _read()
    content = {key: value for key, value in content.items() if key != KEYS}
    return _with_policy({} if not content else _defaults_of(context, content, path))


def _with_policy(defaults: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults with the policy that the environment names, which goes before the file's."""
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
        own = content.get(name, {})
        _check(own, known, path)
        repeatable = {str(p.name) for p in commands[name].params if p.multiple}
        asked = {known[key]: value for key, value in {**shared, **own}.items() if key in known}
        defaults[name] = {
            key: [value] if key in repeatable and isinstance(value, str) else value for key, value in asked.items()
        }
    _check(shared, {key: key for known in options.values() for key in known}, path)
    _check({key: value for key, value in content.items() if isinstance(value, dict)}, dict.fromkeys(commands, ""), path)
    return defaults


def load_keys() -> dict[str, Any]:
    """Return the table of keys for the screens, which only they can check.

    Raises:
        UsageError: The file is no TOML, or the keys in it are no table.
    """
    path, content = _read()
    keys = content.get(KEYS, {})
    if not isinstance(keys, dict):
        raise UsageError(f"{KEYS!r} is to be a table", where=str(path), hint=f'[{KEYS}], then pairs-sort = "f5".')
    return keys


def _read() -> tuple[Path, dict[str, Any]]:
    """Return the settings file and what is in it, nothing without one.

    Raises:
        UsageError: It is no TOML.
    """
    path = _find()
    if path is None:
        return Path(FILE), {}
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"This settings file cannot be read ({error})", where=str(path), hint="Mend or remove it."
        ) from error


def _find() -> Path | None:
    import platformdirs

    candidates = (Path(FILE), platformdirs.user_config_path("prefscope") / FILE)
    return next((path for path in candidates if path.is_file()), None)


def _check(given: dict[str, Any], known: dict[str, str], path: Path) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f"There is no setting {key!r}",
                where=str(path),
                hint=f"Did you mean {near[0]!r}?" if near else "Its names are the long options without the dashes.",
            )
