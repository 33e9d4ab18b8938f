"""Highlight what the scope searches for. Reverse video is legible in every theme, without colours, too."""

from __future__ import annotations

from textual.content import Content

from prefscope.ledger.search import Needle, hits


def highlighted(text: str, needles: tuple[Needle, ...]) -> Content:
    """Return a text with the hits of needles in reverse."""
    content = Content(text)
    for start, stop in hits(text, needles):
        content = content.stylize("reverse", start, stop)
    return content
