"""The app: themes, filters of what is painted, and the one main screen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter
from textual.theme import Theme

from prefscope.errors import LedgerError
from prefscope.events import Finished
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.settings import DataSettings, ModelSettings, PreferenceSettings, ScoreSettings
from prefscope.tui.error_screen import ErrorScreen
from prefscope.tui.load_screen import LoadScreen
from prefscope.tui.main_screen import MainScreen
from prefscope.tui.messages import OpenAsked
from prefscope.tui.remembered import recall, remember
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
    BINDINGS: ClassVar[list[BindingType]] = [Binding("q", "quit", "Quit", id="quit")]

    def __init__(
        self,
        session: Session | None,
        *,
        settings: ScoreSettings | None = None,
        ledger: Path | None = None,
        preferences: PreferenceSettings | None = None,
        ascii_only: bool = False,
        theme: str | None = None,
    ) -> None:
        """Make the app.

        Args:
            session: What to look at; None to begin with the load screen.
            settings: What the load screen begins with.
            ledger: Where the ledger of a run goes; None for the default place.
            preferences: The knobs of what is opened.
            ascii_only: Whether to draw with ASCII characters alone.
            theme: Its name; None for the one that is remembered.
        """
        remembered = recall().theme
        chosen = theme or remembered or DEFAULT_THEME
        # Textual paints black on black with an ansi theme and NO_COLOR unless the terminal's own colours are kept.
        super().__init__(ansi_color=bool(os.environ.get("NO_COLOR")) and chosen.startswith("ansi"))
        self.session = session
        self._settings = settings or ScoreSettings(DataSettings(""), ModelSettings(""))
        self._ledger = ledger
        self._preferences = preferences or PreferenceSettings()
        self._safety: list[LineFilter] = [ControlFilter(), *([AsciiFilter()] if ascii_only else [])]
        for known in THEMES:
            self.register_theme(known)
        self.theme = chosen if chosen in self.available_themes else DEFAULT_THEME

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return our variables for themes that lack them."""
        return VARIABLES

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return the filters of painted lines, ours last."""
        return [*super().get_line_filters(), *self._safety]

    def copy_to_clipboard(self, text: str) -> None:
        """Copy a text; what UTF-8 cannot hold, which names of files can, becomes question marks."""
        super().copy_to_clipboard(text.encode(errors="replace").decode())

    def on_mount(self) -> None:
        """Show the first screen."""
        self.theme_changed_signal.subscribe(self, self._remember_theme)
        self.push_screen(self._load_screen() if self.session is None else MainScreen(self.session))

    def _load_screen(self) -> LoadScreen:
        return LoadScreen(self._settings, self._ledger)

    def _remember_theme(self, theme: Theme) -> None:
        remember(replace(recall(), theme=theme.name))

    @on(LoadScreen.Asked)
    async def _open(self, asked: LoadScreen.Asked) -> None:
        """Go over from the load screen to what was opened there."""
        run = asked.run
        try:
            if run is not None and not run.is_running:
                run.close()
            self.session = Session(_ledger_of(asked), self._preferences)
        except LedgerError as error:
            self.push_screen(ErrorScreen("Not opened", str(error)))
            return
        remember(recall().with_opened(asked.opened))
        while len(self.screen_stack) > 2:  # noqa: PLR2004 (Textual's own screen, and one of ours)
            await self.pop_screen()
        self.switch_screen(MainScreen(self.session, run if run is not None and run.is_running else None))

    @on(OpenAsked)
    def _choose(self) -> None:
        """Go to the load screen, from which one can come back."""
        self.push_screen(self._load_screen())


def _ledger_of(asked: LoadScreen.Asked) -> Ledger:
    """Return what is to be looked at: a run's pairs as they come, what it has written, or a ledger by its name.

    Raises:
        LedgerError: It cannot be opened.
    """
    if asked.run is None:
        return load_ledger(Path(asked.opened.data).expanduser())
    if isinstance(asked.run.ended, Finished):
        return load_ledger(asked.run.ended.ledger)
    return cast("Ledger", asked.run.live)
