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


def view(
    ledger: Annotated[Path, typer.Argument(help="A ledger that `prefscope score` wrote.", show_default=False)],
    beta: Beta = 0.1,
    simpo_beta: SimpoBeta = 2.0,
    simpo_gamma: SimpoGamma = 0.5,
    loss: Losses = None,
    ascii_only: Ascii = False,
    mouse: Mouse = True,
) -> None:
    """Look at a ledger on the screen: no model is needed."""
    preferences = read_preferences(beta, simpo_beta, simpo_gamma, loss, weights=False)
    _show(ledger, preferences, ascii_only=ascii_only, mouse=mouse)


def demo(ascii_only: Ascii = False, mouse: Mouse = True) -> None:
    """Look at the bundled ledger of a real model on the screen."""
    from prefscope.folders import sample_data

    _show(sample_data() / "demo.parquet", PreferenceSettings(), ascii_only=ascii_only, mouse=mouse)


def _show(path: Path, preferences: PreferenceSettings, *, ascii_only: bool, mouse: bool) -> None:
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):  # Textual paints on stderr
        raise UsageError("The screens need a terminal", hint=f"For a pipe or a file: prefscope report {path}.")
    from prefscope.ledger.table import load_ledger
    from prefscope.tui.app import PrefscopeApp
    from prefscope.tui.session import Session

    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    PrefscopeApp(Session(load_ledger(path), preferences), ascii_only=ascii_only or not utf8).run(mouse=mouse)
