"""Copying: the terminal is asked to take a text, also over SSH; whether it does it does not say."""

from __future__ import annotations

import os
from typing import Any

from textual.app import App

from prefscope.report.visible import visible

LONG = 50_000
"""Characters of which some terminals refuse more."""


def copy(app: App[Any], text: str, what: str) -> None:
    """Send a text to the terminal's clipboard (OSC 52), and tell what was sent and what may keep it from arriving."""
    app.copy_to_clipboard(text)
    told = [f"Copied: {visible(what)}"]
    if os.environ.get("TMUX"):
        told.append("Not there? tmux needs: set -g set-clipboard on")
    if len(text) > LONG:
        told.append(f"{len(text):,} characters: more than some terminals take")
    app.notify("\n".join(told), markup=False)
