"""Print sections to a terminal, or as an SVG picture of one."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from prefscope.report.sections import Plot, Section, Table

PAGE_WIDTH = 120
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
WRONG, RIGHT = "#e69f00", "#56b4e9"  # orange and sky blue of Okabe and Ito


def print_sections(console: Console, lines: Sequence[str], sections: Sequence[Section]) -> None:
    """Print a report; all text is literal, never markup."""
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    for section in sections:
        console.print()
        console.print(Text(section.title, style="bold"))
        if isinstance(section, Plot):
            console.print(_coloured(section.text), soft_wrap=True)
        else:
            console.print(_rich_table(section))
            if section.note:
                console.print(Text(section.note))


def _coloured(plot: str) -> Text:
    """Return a plot with wrong and right bars in colours that colour-blind people can distinguish."""
    text = Text(plot)
    text.highlight_regex("▒+", WRONG)
    text.highlight_regex("█+|[⠀-⣿]+", RIGHT)
    return text


def _rich_table(section: Table) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(section.header):
        right = index in section.numeric
        table.add_column(name, justify="right" if right else "left", no_wrap=right or index == 0)
    for row in section.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def as_svg(lines: Sequence[str], sections: Sequence[Section]) -> str:
    """Return a report as a picture of a terminal, in the viewer's monospaced font."""
    return picture_of(_recorded(lines, sections).export_svg(title="prefscope report"))


def picture_of(svg: str) -> str:
    """Return a picture by rich or Textual as valid XML without fonts to load; forbidden characters become U+FFFD."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL))


def _recorded(lines: Sequence[str], sections: Sequence[Section]) -> Console:
    """Return a console that has recorded a report."""
    console = Console(record=True, file=io.StringIO(), width=PAGE_WIDTH, force_terminal=True, color_system="truecolor")
    print_sections(console, lines, sections)
    return console
