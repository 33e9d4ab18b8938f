"""Copying through the terminal, which also works over SSH. The terminal does not report whether it succeeded."""

from __future__ import annotations

import os
from typing import Any

from textual.app import App

from prefscope.report.visible import visible

LONG = 50_000
"""Characters above which some terminals refuse to copy."""


def copy(app: App[Any], text: str, what: str) -> None:
    """Copy text to the terminal's clipboard (OSC 52), and notify the user what was sent and what may block it."""
    app.copy_to_clipboard(text)
    told = [f"Copied: {visible(what)}"]
    if os.environ.get("TMUX"):
        told.append("Not there? tmux needs: set -g set-clipboard on")
    if len(text) > LONG:
        told.append(f"{len(text):,} characters: more than some terminals take")
    app.notify("\n".join(told), markup=False)
