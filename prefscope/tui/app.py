"""The app: themes, filters of what is painted, and the one main screen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar

from textual.app import App
from textual.binding import BindingType
from textual.filter import LineFilter

from prefscope.tui.main_screen import MainScreen
from prefscope.tui.safe_text import AsciiFilter, ControlFilter
from prefscope.tui.session import Session
from prefscope.tui.theme import DEFAULT_THEME, THEMES, VARIABLES


class PrefscopeApp(App[None]):
    """Prefscope on a terminal."""

    TITLE = "prefscope"
    CSS_PATH = "prefscope.tcss"
    ENABLE_COMMAND_PALETTE = True
    PAUSE_GC_ON_SCROLL = True
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 (Textual declares it for instances)
        (0, "-narrow"),
        (100, "-wide"),
    ]
    VERTICAL_BREAKPOINTS = [  # noqa: RUF012 (the same)
        (0, "-short"),
        (30, "-tall"),
    ]
    BINDINGS: ClassVar[list[BindingType]] = [("q", "quit", "Quit")]

    def __init__(self, session: Session, *, ascii_only: bool = False, theme: str = DEFAULT_THEME) -> None:
        # Textual paints black on black with an ansi theme and NO_COLOR unless the terminal's own colours are kept.
        super().__init__(ansi_color=bool(os.environ.get("NO_COLOR")) and theme.startswith("ansi"))
        self.session = session
        self._safety: list[LineFilter] = [ControlFilter(), *([AsciiFilter()] if ascii_only else [])]
        for known in THEMES:
            self.register_theme(known)
        self.theme = theme

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return our variables for themes that lack them."""
        return VARIABLES

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return the filters of painted lines, ours last."""
        return [*super().get_line_filters(), *self._safety]

    def on_mount(self) -> None:
        """Show the main screen."""
        self.push_screen(MainScreen(self.session))
