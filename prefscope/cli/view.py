"""`prefscope view` and `prefscope demo`: the screens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from prefscope.cli.options import Beta, Losses, SimpoBeta, SimpoGamma, read_preferences
from prefscope.errors import UsageError
from prefscope.settings import PreferenceSettings

Ascii = Annotated[bool, typer.Option("--ascii", help="Draw with ASCII characters alone.")]
Mouse = Annotated[bool, typer.Option("--mouse/--no-mouse", help="Without it the terminal's own selection works.")]
DEMO = ("demo.parquet", "demo-early.parquet")
"""Two steps of one training."""


def view(
    ledgers: Annotated[
        list[Path],
        typer.Argument(
            metavar="LEDGER",
            help="What `prefscope score` wrote. The first is shown; further ones, of the same pairs, are compared.",
            show_default=False,
        ),
    ],
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
    ascii_only: Ascii = False,
    mouse: Mouse = True,
) -> None:
    """Look at ledgers on the screen: no model is needed."""
    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    _show(ledgers, preferences, ascii_only=ascii_only, mouse=mouse)


def demo(ascii_only: Ascii = False, mouse: Mouse = True) -> None:
    """Look at the bundled ledgers of a real model on the screen."""
    from prefscope.folders import sample_data

    _show([sample_data() / name for name in DEMO], PreferenceSettings(), ascii_only=ascii_only, mouse=mouse)


def _show(paths: list[Path], preferences: PreferenceSettings, *, ascii_only: bool, mouse: bool) -> None:
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):  # Textual paints on stderr
        raise UsageError("The screens need a terminal", hint=f"For a pipe or a file: prefscope report {paths[0]}.")
    from prefscope.ledger.pairing import load_runs
    from prefscope.tui.app import PrefscopeApp
    from prefscope.tui.session import Session

    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    shown, *beside = ledgers = load_runs(paths)
    for ledger in ledgers:
        ledger.usable_losses(preferences)  # what a ledger lacks is said before the screen is taken
    PrefscopeApp(Session(shown, preferences, beside), ascii_only=ascii_only or not utf8).run(mouse=mouse)
