"""Persisted UI state: recently opened files, theme, palette and columns. It is safe to delete."""

from __future__ import annotations

import json
import os
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

    def absolute(self) -> Opened:
        """Return it with absolute paths in place of relative ones, so that it can be opened from any folder."""
        return Opened(*(_absolute(name) for name in (self.data, self.policy, self.ref)))

    @property
    def is_there(self) -> bool:
        """Whether its data can still be opened: a file or folder that exists, a pattern, or not a local path."""
        path = Path(self.data)
        return path.exists() or (not path.suffix and not path.is_absolute()) or bool({*"*?["} & {*self.data})


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
        first = opened.absolute()
        others = [one for one in self.opened if one != first]
        return replace(self, opened=(first, *others)[:MOST_RECENT])

    @property
    def still_there(self) -> tuple[Opened, ...]:
        """The entries of `opened` that can still be opened, each once."""
        return tuple(one for one in dict.fromkeys(one.absolute() for one in self.opened) if one.is_there)


def _absolute(name: str) -> str:
    """Return an absolute path for a name of an existing file or folder; other names, as of the hub, stay."""
    with suppress(OSError, RuntimeError, ValueError):
        path = Path(name).expanduser()
        if name and path.exists():
            return os.path.abspath(path)  # noqa: PTH100 (keeps links, unlike resolve)
    return name


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
