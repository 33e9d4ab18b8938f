"""A comparison of runs as one HTML page that loads nothing else and escapes all text of data sets."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from prefscope.report import svg
from prefscope.report.compare_sections import MAP
from prefscope.report.compared import Compared
from prefscope.report.course_plots import svg_lines
from prefscope.report.files import refuse_sources, whole_file
from prefscope.report.html import figures, table
from prefscope.report.page import SCRIPT, STYLE, policy
from prefscope.report.sections import Table
from prefscope.report.visible import visible

WIDTH = 100
"""Cells that tables are made for."""


def write_page(compared: Compared, path: Path) -> None:
    """Write a comparison to an HTML file.

    Raises:
        UsageError: The path is that of a ledger or a file beside it.
        ResourceError: The file cannot be written.
    """
    for ledger in compared.ledgers:
        refuse_sources(path, ledger)
    with whole_file(path) as part:
        part.write_text("\n".join(page(compared)) + "\n", encoding="utf-8")


def page(compared: Compared) -> Iterator[str]:
    """Yield the lines of the page; equal comparisons give equal pages."""
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{escape(policy())}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>prefscope comparison</title><style>{STYLE}</style></head><body>"
    yield "<header><h1>prefscope comparison</h1>"
    yield from (f"<p>{escape(visible(line.strip()))}</p>" for line in compared.headline())
    yield "</header>"
    yield from figures(_plots(compared))
    yield from (table(one) for one in compared.sections(WIDTH) if isinstance(one, Table))
    yield f"<script>{SCRIPT}</script></body></html>"


def _plots(compared: Compared) -> Iterator[tuple[str, str]]:
    """Yield title and picture of every plot of three or more runs."""
    if compared.is_training and compared.followed is not None:
        yield from svg_lines(compared.followed.training)
        found = compared.followed.trajectories
        yield MAP, svg.scatter(found.variability, found.confidence, ("variability", "confidence"), diagonal=False)
