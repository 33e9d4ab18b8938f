"""Open a text in the user's pager or editor, as a read-only copy that is removed afterwards."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from textual.app import App, SuspendNotSupported

from prefscope.report.visible import visible, visible_lines

VARIABLES = ("PAGER", "EDITOR")
USUAL = ("less", "more")
"""Pagers that are used if no variable names one."""
_MODELINE = re.compile(r"\b(?:vi|vim|Vim|ex)[<=>]?\d*:|-\*-")
MODELINES = 5
"""Lines at either end of a file in which editors look for settings; the text must not be there."""


def find_pager() -> list[str]:
    """Return the command of $PAGER, $EDITOR or a usual pager, whichever is there first; empty if none is."""
    for command in (*(os.environ.get(name, "") for name in VARIABLES), *USUAL):
        words = _words(command)
        if words and shutil.which(words[0]):
            return words
    return []


def open_text(app: App[Any], text: str, title: str) -> None:
    """Suspend the app, and show a text with control characters made visible until the pager ends.

    The copy is readable by its owner alone. Notifies the user if there is no pager, or it fails.
    """
    command = find_pager()
    if not command:
        app.notify("No pager was found: set PAGER or EDITOR.", severity="warning", markup=False)
        return
    try:
        with tempfile.TemporaryDirectory(prefix="prefscope-") as folder:  # a folder of the owner alone
            path = Path(folder) / f"{title}.txt"
            path.write_text(_page(text), encoding="utf-8", errors="backslashreplace")
            path.chmod(0o400)
            with app.suspend():
                code = _run([*command, str(path)])
    except SuspendNotSupported:
        app.notify("This terminal cannot show another program.", severity="warning", markup=False)
    except OSError as error:
        app.notify(visible(f"Could not open it: {error.strerror or error}"), severity="error", markup=False)
    else:
        if code:
            app.notify(
                visible(f"{Path(command[0]).name} ended with exit code {code}."), severity="warning", markup=False
            )


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:  # an open quote
        return []


def _page(text: str) -> str:
    """Return the text between lines that keep it out of an editor's reach."""
    around = "\n" * MODELINES
    return f"{visible_lines(text)}\n{around}" if not _has_modeline(text) else f"{around}{visible_lines(text)}\n{around}"


def _has_modeline(text: str) -> bool:
    """Return whether an editor might take the beginning of a text for its settings."""
    first = text.split("\n", MODELINES)[:MODELINES]
    return any(_MODELINE.search(line) for line in first)


def _run(command: list[str]) -> int:
    """Run a command in the foreground and return its exit code; ctrl+C is for it alone."""
    previous = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 (the user's own pager)
    finally:
        signal.signal(signal.SIGINT, previous)
