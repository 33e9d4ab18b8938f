"""Paragraphs with a margin on their left."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def print_indented(console: Console, text: Text, head: Text) -> None:
    """Print a paragraph beside what stands in its margin, without spaces at the ends of its lines."""
    for number, line in enumerate(text.wrap(console, console.width - head.cell_len)):
        line.rstrip()
        console.print((head if number == 0 else Text(" " * head.cell_len)) + line, soft_wrap=True)
