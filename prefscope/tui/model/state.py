"""Persisted UI state: recently opened files, theme, palette and columns. It is safe to delete."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from prefscope.errors import UNREADABLE
from prefscope.private import make_folder, replace_json

MOST_RECENT = 8


@dataclass(frozen=True, slots=True)
class Opened:
    """A ledger, or a data set with its checkpoints, that was opened."""

    data: str
    policy: str = ""
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The persisted UI state."""

    theme: str | None = None
    palette: str | None = None
    columns: tuple[str, ...] | None = None
    """Columns of the table of pairs; None: chosen automatically."""
    opened: tuple[Opened, ...] = ()
    """Recently opened, the latest first."""

    def with_opened(self, opened: Opened) -> Remembered:
        """Return the state with an entry moved or added to the front of `opened`."""
        others = [one for one in self.opened if one != opened]
        return replace(self, opened=(opened, *others)[:MOST_RECENT])


def remembered_file() -> Path:
    """Return the path of the file with the UI state."""
    return platformdirs.user_state_path("prefscope") / "screens.json"


def recall() -> Remembered:
    """Return the persisted UI state, with defaults for anything missing or damaged."""
    value: Any = None
    with suppress(OSError, *UNREADABLE):
        value = json.loads(remembered_file().read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        return Remembered()
    columns = value.get("columns")
    opened = value.get("opened")
    return Remembered(
        theme=_text(value.get("theme")),
        palette=_text(value.get("palette")),
        columns=tuple(filter(_text, columns)) if isinstance(columns, list) else None,
        opened=tuple(filter(None, map(_opened, opened)))[:MOST_RECENT] if isinstance(opened, list) else (),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _opened(value: Any) -> Opened | None:
    """Return an entry of `opened`, or None if it is damaged."""
    if not isinstance(value, dict) or not _text(value.get("data")):
        return None
    return Opened(value["data"], *(_text(value.get(role)) or "" for role in ("policy", "ref")))


def remember(remembered: Remembered) -> None:
    """Save the UI state; errors are ignored."""
    path = remembered_file()
    with suppress(OSError):
        make_folder(path.parent)
        replace_json(path, asdict(remembered))
