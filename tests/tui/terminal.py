"""An app on a virtual terminal, driven by plain calls."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import textual
from rich.cells import cell_len
from textual.app import App
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.strip import Strip

from tests.tui.idle import install, until_idle

install()

GOLDEN = Path(__file__).with_name("golden")
RECORDED_WITH = "8.2.8"
"""The Textual version that the golden screens were recorded with; other versions may move a cell."""


class Terminal:
    """Context manager that runs an app on a terminal of a given size."""

    def __init__(self, app: App[Any], size: tuple[int, int] = (80, 24)) -> None:
        self.app = app
        self._runner = asyncio.Runner()
        self._running = app.run_test(size=size, notifications=True)
        self.pilot: Pilot[Any]

    def __enter__(self) -> Self:
        self.pilot = self._runner.run(self._running.__aenter__())
        self.rest()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._runner.run(self._running.__aexit__(kind, error, trace))
        finally:
            self._runner.close()

    def rest(self) -> None:
        """Wait until delayed updates have happened, too."""

        async def settle() -> None:
            await self.pilot.pause()
            await until_idle(horizon=0.03)
            await self.pilot.pause()

        self._runner.run(settle())

    def sleep(self, seconds: float) -> None:
        """Let the app run for some time."""
        self._runner.run(self.pilot.pause(seconds))

    def wait_for(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until a condition holds that another process fulfils."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.text
            self.sleep(0.03)

    def finish(self) -> None:
        """Wait until threads have finished, then rest."""
        self._runner.run(self.app.workers.wait_for_complete())
        self.rest()

    def send(self, *keys: str) -> None:
        """Send keys at once, as those of a fast typist or a paste over a slow line, then rest."""

        async def simulate() -> None:
            for key in keys:
                self.app.simulate_key(key)

        self._runner.run(simulate())
        self.rest()

    def press(self, *keys: str) -> None:
        """Press keys one after the other, then rest."""
        self._runner.run(self.pilot.press(*keys))
        self.rest()

    def type(self, text: str) -> None:
        """Type a text, then rest."""
        self.press(*text)

    def click(self, widget: str, x: int, y: int, times: int = 1) -> None:
        """Click at a position in the first widget that matches a selector, then rest."""
        self._runner.run(self.pilot.click(widget, offset=Offset(x, y), times=times))
        self.rest()

    def click_at(self, x: int, y: int, times: int = 1) -> None:
        """Click at a position of the screen, then rest."""
        self._runner.run(self.pilot.click(offset=Offset(x, y), times=times))
        self.rest()

    def drag(self, widget: str, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Drag the mouse between two positions in the first widget that matches a selector, then rest."""

        async def move() -> None:
            await self.pilot.mouse_down(widget, offset=Offset(*start))
            await self.pilot.hover(widget, offset=Offset(*end))
            await self.pilot.mouse_up(widget, offset=Offset(*end))

        self._runner.run(move())
        self.rest()

    def click_text(self, text: str) -> None:
        """Click on the first occurrence of a text, then rest."""
        y, line = next((y, line) for y, line in enumerate(self.lines) if text in line)
        self._runner.run(self.pilot.click(offset=Offset(cell_len(line[: line.index(text)]), y)))
        self.rest()

    def resize(self, width: int, height: int) -> None:
        """Resize the terminal."""
        self._runner.run(self.pilot.resize_terminal(width, height))
        self.rest()

    @property
    def strips(self) -> list[Strip]:
        """The painted lines, with their styles."""

        async def paint() -> list[Strip]:
            await self.pilot.pause()  # a footer that is made anew leaves widgets without a parent for a moment
            return list(self.app.screen._compositor.render_strips())

        return self._runner.run(paint())

    @property
    def lines(self) -> list[str]:
        """The lines as text, without trailing spaces."""
        return [strip.text.rstrip() for strip in self.strips]

    @property
    def text(self) -> str:
        """The whole screen as text."""
        return "\n".join(self.lines)

    @property
    def widths(self) -> set[int]:
        """The widths of the lines in cells."""
        return {cell_len(strip.text) for strip in self.strips}

    def colour_of(self, text: str) -> str | None:
        """Return the colour of the first occurrence of a text."""
        for strip in self.strips:
            for segment in strip:
                if text in segment.text and segment.style is not None and segment.style.color is not None:
                    return segment.style.color.get_truecolor().hex
        return None


def assert_golden(terminal: Terminal, name: str) -> None:
    """Compare the screen with the golden file of this name and size; RECORD_GOLDEN=1 records it again."""
    if textual.__version__ != RECORDED_WITH:
        pytest.skip(f"golden screens are for Textual {RECORDED_WITH}")
    path = GOLDEN / f"{name}@{terminal.app.size.width}x{terminal.app.size.height}.txt"
    if os.environ.get("RECORD_GOLDEN") == "1":
        path.write_text(terminal.text + "\n", encoding="utf-8")
    assert terminal.text + "\n" == path.read_text(encoding="utf-8")


def prompts(terminal: Terminal) -> list[str]:
    """Return the row numbers of the pairs in view."""
    rows = [line[1:].split()[0] for line in terminal.lines[1:] if "prompt " in line]
    return [row for row in rows if row.isdigit()]


def cursor_line(terminal: Terminal) -> str:
    (line,) = [line for line in terminal.lines if line.startswith("▶")]
    return line
