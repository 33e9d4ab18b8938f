"""What the screens remember from one session to the next: what was opened, and the theme. Losing it loses nothing."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

MOST = 8


@dataclass(frozen=True, slots=True)
class Opened:
    """What was looked at: a ledger, or a data set with its checkpoints."""

    data: str
    policy: str = ""
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Remembered:
    """All that is remembered."""

    theme: str | None = None
    opened: tuple[Opened, ...] = ()
    """The latest first."""

    def with_opened(self, opened: Opened) -> Remembered:
        """Return it with one more thing that was opened."""
        others = [one for one in self.opened if one != opened]
        return replace(self, opened=(opened, *others)[:MOST])


def remembered_file() -> Path:
    """Return the file."""
    return platformdirs.user_state_path("prefscope") / "screens.json"


def recall() -> Remembered:
    """Return what is remembered; nothing where the file is damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        value: dict[str, Any] = json.loads(remembered_file().read_text(encoding="utf-8"))
        opened = tuple(Opened(**{key: str(text) for key, text in one.items()}) for one in value["opened"])
        theme = value["theme"]
        return Remembered(theme if isinstance(theme, str) else None, opened)
    return Remembered()


def remember(remembered: Remembered) -> None:
    """Keep it, if that is possible."""
    path = remembered_file()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part.write_text(json.dumps(asdict(remembered), indent=1), encoding="utf-8")
        part.replace(path)
