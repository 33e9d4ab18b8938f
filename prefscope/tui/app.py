"""The Textual app: themes, filters on rendered lines, and switching between the load screen and the main screen."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar, cast

from textual import on
from textual.app import App
from textual.binding import Binding, BindingType
from textual.events import Event, InputEvent
from textual.filter import LineFilter
from textual.screen import Screen
from textual.theme import Theme

from prefscope.errors import PrefscopeError, UsageError
from prefscope.events import Finished
from prefscope.ledger.run_folder import RunFolder, is_run_folder
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.report.visible import visible
from prefscope.settings import DataSettings, ModelSettings, Palette, PreferenceSettings, ScoreSettings
from prefscope.tui.commands import Commands
from prefscope.tui.messages import Chosen, OpenRequested
from prefscope.tui.model.idle_timer import IdleTimer, collect, disable_full_collections
from prefscope.tui.model.session import Session
from prefscope.tui.model.state import Opened, recall, remember
from prefscope.tui.model.watcher import Watcher
from prefscope.tui.model.worker_run import Saved, Scoring
from prefscope.tui.safe_text import AsciiFilter, ControlFilter
from prefscope.tui.screens.error import ErrorScreen
from prefscope.tui.screens.main import MainScreen
from prefscope.tui.screens.waiting import WaitingScreen
from prefscope.tui.theme import (
    DEFAULT_PALETTE,
    DEFAULT_THEME,
    MONO_CLASS,
    PALETTES,
    THEMES,
    VARIABLES,
    sign_colours,
)

KEY_NAMES = {"enter": "enter", "backspace": "backspace"}
"""Names of keys that Textual would show as a glyph."""

SECONDS_BETWEEN_CHECKS = 2.0
LONG_SECONDS = 600.0
SECONDS_TO_START = 1.0
"""Seconds after which most long-lived objects have been created."""


class PrefscopeApp(App[None]):
    """The terminal app."""

    TITLE = "prefscope"
    CSS_PATH = "prefscope.tcss"
    COMMANDS = {Commands}  # noqa: RUF012 (as Textual declares it)
    COMMAND_PALETTE_DISPLAY = "^p"
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
        palette: Palette | None = None,
        keys: Mapping[str, str] | None = None,
        watching: tuple[RunFolder, Watcher] | None = None,
    ) -> None:
        """Set up the app.

        Args:
            session: Session to show; None: start with the load screen.
            settings: Initial values of the load screen.
            ledger: Where a run writes its ledger; None: the default path.
            preferences: Initial beta and losses of opened ledgers.
            ascii_only: Whether to draw with ASCII characters only.
            theme: Name of the theme; None: the one used last.
            palette: Colours of positive and negative values; None: the palette used last.
            keys: User-defined keys, by binding id (keymap.py).
            watching: The run folder of a training and the process that scores its checkpoints; without a session, the
                screens wait for the first one.

        Raises:
            UsageError: If the theme is unknown.
        """
        remembered = recall()
        chosen = theme or remembered.theme or DEFAULT_THEME
        last_palette = remembered.palette if remembered.palette in PALETTES else DEFAULT_PALETTE
        self.palette: Palette = palette or cast("Palette", last_palette)
        """The colours of positive and negative values."""
        # With an ansi theme and NO_COLOR, Textual paints black on black unless it keeps the terminal's own colours.
        super().__init__(ansi_color=bool(os.environ.get("NO_COLOR")) and chosen.startswith("ansi"))
        self.idle_timer = IdleTimer()
        self.session = session
        self._settings = settings or ScoreSettings(DataSettings(""), ModelSettings(""))
        self._ledger = ledger
        self._watching = watching
        self._main: MainScreen | None = None
        self._preferences = preferences or PreferenceSettings()
        self._safety: list[LineFilter] = [ControlFilter(), *([AsciiFilter()] if ascii_only else [])]
        for known in THEMES:
            self.register_theme(known)
        if theme and theme not in self.available_themes:
            near = difflib.get_close_matches(theme, self.available_themes, n=1) or [DEFAULT_THEME]
            raise UsageError(f"There is no theme {theme!r}", hint=f"Did you mean {near[0]!r}?")
        self.theme = chosen if chosen in self.available_themes else DEFAULT_THEME
        self._known_theme = self.theme
        self.set_class(self.palette == "mono", MONO_CLASS)
        self.set_keymap(keys or {})

    @property
    def failure(self) -> Exception | None:
        """The exception that ended the screens, None if there was none."""
        return self._exception

    @property
    def unfinished(self) -> Saved | None:
        """The partial ledger of the run on the screens; None without a run or before its first batch."""
        run = None if self._main is None else self._main.scoring
        return None if run is None else run.saved

    async def action_quit(self) -> None:
        """Exit, after a run has written what is scored; a second `q` does not wait on the screens for it."""
        run = None if self._main is None else self._main.scoring
        if run is None or run.has_exited or run.is_closed:
            self.exit()
            return
        self.notify("Writing the ledger of what is scored.", timeout=LONG_SECONDS, markup=False)
        self.run_worker(self._leave(run), group="quit", exit_on_error=False)

    async def _leave(self, run: Scoring) -> None:
        await run.finish()
        self.exit()

    def _fatal_error(self) -> None:
        """Close after an exception without Textual's pages of traceback: whoever runs the app reports `failure`."""
        self.bell()
        self._close_messages_no_wait()

    def panic(self, *_: object) -> None:
        """Close without printing anything, for the same reason."""
        self._fatal_error()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """Return the variables that are used if a theme does not define them."""
        return VARIABLES

    def get_css_variables(self) -> dict[str, str]:
        """Return the CSS variables of the theme, with the colours of positive and negative values from the palette."""
        colours = sign_colours(self.palette, dark=self.current_theme.dark)
        self.theme_variables = super().get_css_variables() | colours
        return self.theme_variables

    def set_palette(self, palette: Palette) -> None:
        """Change the colours of positive and negative values, and remember the choice."""
        self.palette = palette
        self.set_class(palette == "mono", MONO_CLASS)
        self.refresh_css(animate=False)
        self.call_next(self.theme_changed_signal.publish, self.current_theme)
        remember(replace(recall(), palette=palette))

    def save_picture(self) -> None:
        """Write the screen to an SVG file in the working folder, once the command palette has closed."""
        self.set_timer(0.1, self._write_picture)

    def _write_picture(self) -> None:
        from prefscope.report.tables import picture_of  # imports the libraries that draw tables

        path = Path(f"prefscope-{datetime.now().astimezone():%Y%m%d-%H%M%S}.svg").absolute()
        try:
            path.write_text(picture_of(self.export_screenshot()), encoding="utf-8")
        except OSError as error:
            message = f"Could not save the screenshot: {error.strerror or error}: {path}"
            self.notify(visible(message), severity="error", markup=False)
            return
        self.notify(visible(f"Screenshot: {path}"), markup=False)

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Return the filters applied to rendered lines; the app's own come last."""
        return [*super().get_line_filters(), *self._safety]

    def get_key_display(self, binding: Binding) -> str:
        """Return the displayed name of a key: a word if some terminals do not have its glyph."""
        return KEY_NAMES.get(binding.key_display or binding.key) or super().get_key_display(binding)

    def copy_to_clipboard(self, text: str) -> None:
        """Copy text; characters that UTF-8 cannot encode, as in some file names, become question marks."""
        super().copy_to_clipboard(text.encode(errors="replace").decode())

    async def on_event(self, event: Event) -> None:
        """Reset the idle timer on every key or mouse event, before the event is handled."""
        if isinstance(event, InputEvent):
            self.idle_timer.move()
        await super().on_event(event)

    def on_ready(self) -> None:
        """Show the first screen and start the periodic tasks; Textual paints nothing before this event."""
        self.theme_changed_signal.subscribe(self, self._remember_theme)
        for path in reversed(_paths_of(self.session) if self.session is not None else ()):
            remember(recall().with_opened(Opened(str(path))))
        self.push_screen(self._first_screen())
        if not self.is_headless:
            self.set_interval(SECONDS_BETWEEN_CHECKS, self._exit_with_terminal)
            self.set_timer(SECONDS_TO_START, disable_full_collections)
            self.set_interval(SECONDS_BETWEEN_CHECKS, partial(collect, self.idle_timer))

    def _first_screen(self) -> Screen[None]:
        if self.session is not None:
            return self._main_screen(self.session, None)
        return self._load_screen() if self._watching is None else WaitingScreen(*self._watching)

    @on(WaitingScreen.Scored)
    def _show_training(self) -> None:
        """Show the first checkpoint that a watch has scored."""
        if self._watching is None or not isinstance(self.screen, WaitingScreen):
            return
        try:
            self.session = Session.of_training(self._watching[0], self._preferences)
        except PrefscopeError as error:
            self.push_screen(ErrorScreen("Cannot open the run folder", str(error)))
            return
        remember(recall().with_opened(Opened(str(self._watching[0].path))))
        self.switch_screen(self._main_screen(self.session, None))

    def _exit_with_terminal(self) -> None:
        """Exit if the terminal has closed without a signal: reading from it would then spin forever."""
        if not os.isatty(0):
            self.exit()

    def _load_screen(self) -> Screen[None]:
        from prefscope.tui.model.run_form import RunRequest
        from prefscope.tui.screens.load import LoadScreen  # imports the readers of data sets

        return LoadScreen(RunRequest(self._settings, self._ledger, self._preferences))

    def _main_screen(self, session: Session, run: Scoring | None) -> MainScreen:
        session.columns = recall().columns
        watcher = None
        if self._watching is not None and session.folder is not None:
            watcher = self._watching[1] if session.folder.path == self._watching[0].path else None
        self._main = MainScreen(session, run, self.idle_timer, watcher)
        return self._main

    def _remember_theme(self, theme: Theme) -> None:
        if theme.name == self._known_theme:  # the palette changed, not the theme
            return
        self._known_theme = theme.name
        remember(replace(recall(), theme=theme.name))

    @on(Chosen)
    async def _open(self, chosen: Chosen) -> None:
        """Show the ledger or run that was chosen on the load screen."""
        run = chosen.run
        try:
            if run is not None and not run.is_running:
                run.close()
            preferences = chosen.preferences or self._preferences
            self.session = _session_of(chosen, preferences)
            if preferences.explicit:
                self.session.ledger.usable_losses(preferences)  # refuses losses that the ledger cannot provide
        except PrefscopeError as error:
            self.push_screen(ErrorScreen("Cannot open the ledger", str(error)))
            return
        remember(recall().with_opened(chosen.opened))
        while len(self.screen_stack) > 2:  # noqa: PLR2004 (Textual's default screen and one of the app's)
            await self.pop_screen()
        self.switch_screen(self._main_screen(self.session, run if run is not None and run.is_running else None))

    @on(OpenRequested)
    def _show_load_screen(self) -> None:
        """Open the load screen on top of the current one, so that the user can go back."""
        self.push_screen(self._load_screen())


def _paths_of(session: Session) -> Sequence[Path]:
    """Return what a session is opened with: its run folder or its ledgers."""
    return [ledger.path for ledger in session.runs.ledgers] if session.folder is None else [session.folder.path]


def _session_of(chosen: Chosen, preferences: PreferenceSettings) -> Session:
    """Return a session with the chosen ledger, run or run folder.

    Raises:
        PrefscopeError: It cannot be opened.
    """
    path = Path(chosen.opened.data).expanduser()
    if chosen.run is None and is_run_folder(path):
        return Session.of_training(RunFolder(path), preferences)
    return Session(_ledger_of(chosen), preferences)


def _ledger_of(chosen: Chosen) -> Ledger:
    """Return the ledger to show: the live ledger of a run, the file that a finished run wrote, or a chosen file.

    Raises:
        LedgerError: If it cannot be opened.
    """
    if chosen.run is None:
        return load_ledger(Path(chosen.opened.data).expanduser())
    if isinstance(chosen.run.ended, Finished):
        return load_ledger(chosen.run.ended.ledger)
    return cast("Ledger", chosen.run.live)
