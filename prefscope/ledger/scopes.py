"""Named scopes: filter expressions that users have named. Stored beside the ledger, `x.parquet` → `x.scopes.json`.

In any expression, `@name` stands for the named one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from prefscope.errors import UNREADABLE, LedgerError, ResourceError, UsageError
from prefscope.ledger.file import beside
from prefscope.private import replace_json

SIGN = "@"
FORMAT_VERSION = 1
_NAME = re.compile(r"\w+")


def scopes_path(ledger: Path) -> Path:
    """Return the path of a ledger's scopes."""
    return beside(ledger, ".scopes.json")


def load_scopes(ledger: Path) -> dict[str, str]:
    """Return the expressions of a ledger's scopes by name; there are none if the file does not exist.

    Raises:
        LedgerError: If the file is damaged or of a newer version.
    """
    path = scopes_path(ledger)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] > FORMAT_VERSION:
            what = "These scopes were written by a newer prefscope"
            raise LedgerError(what, where=str(path), hint="Update prefscope.")
        return dict(_read(*item) for item in content["scopes"].items())
    except FileNotFoundError:
        return {}
    except (OSError, KeyError, TypeError, AttributeError, *UNREADABLE) as error:
        raise LedgerError(
            f"These scopes cannot be read ({type(error).__name__}: {error})",
            where=str(path),
            hint="Fix the file, or move it away to start without scopes.",
        ) from error


def save_scopes(ledger: Path, scopes: Mapping[str, str]) -> None:
    """Write a ledger's scopes atomically; the file is deleted with the last one.

    Raises:
        ResourceError: If the file cannot be written.
    """
    path = scopes_path(ledger)
    try:
        if scopes:
            replace_json(path, {"format": FORMAT_VERSION, "scopes": {**scopes}})
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(
            f"The scopes cannot be written ({reason})", where=str(path), hint="Copy the ledger to a writable folder."
        ) from error


def scope_name(text: str) -> str:
    """Return the name of a scope as expressions refer to it, without its sign.

    Raises:
        UsageError: If it is not one word of letters, digits and underscores.
    """
    name = text.strip().removeprefix(SIGN)
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the name of a scope", hint="Use letters, digits and underscores.")
    return name


def _read(name: str, expression: object) -> tuple[str, str]:
    if not _NAME.fullmatch(name) or not isinstance(expression, str):
        raise ValueError(f"{name} is not a named expression")
    return name, expression
