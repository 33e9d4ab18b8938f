"""Completes paths in fields."""

from __future__ import annotations

import asyncio
from pathlib import Path

from textual.suggester import Suggester

from prefscope.report.visible import visible


class PathSuggester(Suggester):
    """Completes a path to the first path with this prefix."""

    def __init__(self) -> None:
        super().__init__(use_cache=False, case_sensitive=True)

    async def get_suggestion(self, value: str) -> str | None:
        """Return the first existing path that starts with the typed text, or None."""
        return await asyncio.to_thread(_completed, value)


def _completed(value: str) -> str | None:
    path = Path(value).expanduser()
    if not value or value.endswith("/"):
        return None
    try:
        names = sorted(one.name for one in path.parent.iterdir())
    except OSError:
        return None
    safe = (name for name in names if visible(name) == name)
    longer = (name for name in safe if name.startswith(path.name) and name != path.name)
    return next((value + name[len(path.name) :] for name in longer), None)
