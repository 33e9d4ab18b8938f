"""Indented paragraphs."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def print_indented(console: Console, text: Text, head: Text) -> None:
    """Print a paragraph with `head` in its left margin, without trailing spaces."""
    for number, line in enumerate(text.wrap(console, console.width - head.cell_len)):
        line.rstrip()
        console.print((head if number == 0 else Text(" " * head.cell_len)) + line, soft_wrap=True)
