"""Copying through the terminal, which also works over SSH. The terminal does not report whether it succeeded."""

from __future__ import annotations

import os
from typing import Any

from textual.app import App

from prefscope.tui.model.cells import one_line

LONG = 50_000
"""Characters above which some terminals refuse to copy."""


def copy(app: App[Any], text: str, what: str) -> None:
    """Copy text to the terminal's clipboard (OSC 52), and show what was sent and what might prevent it."""
    app.copy_to_clipboard(text)
    lines = [f"Copied: {one_line(what)}"]
    if os.environ.get("TMUX"):
        lines.append("Nothing to paste? tmux needs: set -g set-clipboard on")
    if len(text) > LONG:
        lines.append(f"{len(text):,} characters: some terminals do not accept that many")
    app.notify("\n".join(lines), markup=False)
