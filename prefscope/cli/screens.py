"""What the commands that open the screens share: options of their appearance, and how they are run."""

from __future__ import annotations

import gc
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prefscope.cli.config import load_keys
from prefscope.cli.panels import SCREENS
from prefscope.errors import UsageError
from prefscope.settings import Palette, PreferenceSettings, ScoreSettings

if TYPE_CHECKING:
    from prefscope.ledger.run_folder import RunFolder
    from prefscope.tui.model.watcher import Watcher

Theme = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        envvar="PREFSCOPE_THEME",
        help="prefscope-dark, prefscope-light or a Textual theme. Default: the last one used.",
        show_default=False,
        rich_help_panel=SCREENS,
    ),
]
Colours = Annotated[
    Palette | None,
    typer.Option(
        metavar="NAME",
        envvar="PREFSCOPE_PALETTE",
        help="Colours of positive and negative values: sky-orange, blue-red or mono. Default: the last one used.",
        show_default=False,
        rich_help_panel=SCREENS,
    ),
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters only.", rich_help_panel=SCREENS)]
Mouse = Annotated[
    bool,
    typer.Option(
        "--mouse/--no-mouse",
        help="Use the mouse; without it, the terminal's own text selection works.",
        rich_help_panel=SCREENS,
    ),
]


@dataclass(frozen=True, slots=True)
class Look:
    """Appearance of the screens."""

    theme: str | None
    palette: Palette | None
    ascii_only: bool
    mouse: bool


def show_screens(
    paths: list[Path],
    preferences: PreferenceSettings,
    look: Look,
    *,
    settings: ScoreSettings | None = None,
    ledger: Path | None = None,
    watching: tuple[RunFolder, Watcher] | None = None,
) -> None:
    """Run the screens on ledgers, on the load screen filled in with settings, or on a training that is watched.

    Raises:
        UsageError: There is no terminal, or a setting of the screens is wrong.
    """
    if not is_terminal():
        instead = f"report {paths[0]}" if paths else "score DATA"
        raise UsageError("The screens need a terminal", hint=f"To write to a pipe or a file, use prefscope {instead}.")
    from prefscope.ledger.run_folder import RunFolder, open_runs
    from prefscope.report.sections import NO_CHECKSUM
    from prefscope.report.visible import visible

    gc.disable()  # there is nothing to collect while modules load and ledgers open; the screens enable it
    from prefscope.tui.app import PrefscopeApp
    from prefscope.tui.keymap import checked_keys
    from prefscope.tui.model.session import Session

    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    ledgers, steps = open_runs(paths)
    for one in ledgers:
        if not one.has_checksums:
            sys.stderr.write(f"{visible(one.path.name)}: {NO_CHECKSUM}\n")
    for one in ledgers if preferences.explicit else ():
        one.usable_losses(preferences)  # raises here, before the screen is taken over
    session = Session(ledgers[0], preferences, ledgers[1:], steps) if ledgers else None
    if session is not None and steps is not None:
        session.folder = RunFolder(paths[0])
    app = PrefscopeApp(
        session,
        settings=settings,
        ledger=ledger,
        preferences=preferences,
        ascii_only=look.ascii_only or not utf8,
        theme=look.theme,
        palette=look.palette,
        keys=checked_keys(load_keys()),
        watching=watching,
    )
    app.run(mouse=look.mouse)
    if app.failure is not None:  # reported like that of any other command
        raise app.failure
    if (left := app.unfinished) is not None:
        name = shlex.quote(visible(str(left.path)))
        sys.stderr.write(
            f"{left.scored:,} of {left.pairs:,} pairs are scored; open them: prefscope view {name}\n"
            "Score the same data set again to complete this ledger.\n"
        )


def is_terminal() -> bool:
    """Return whether the screens can be shown."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))  # Textual draws on stderr
