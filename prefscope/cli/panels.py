"""Plain-text help whose options and commands are grouped under headings."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup

DATA, MODELS, TOKENIZATION, LOSSES = "Data", "Models", "Tokenization", "Losses"
OUTPUT, SCREENS, COMPUTE, SCALE, OPTIONS = "Output", "Screens", "Compute", "Scale", "Options"
PANELS = (DATA, MODELS, TOKENIZATION, LOSSES, OUTPUT, SCREENS, COMPUTE, SCALE, OPTIONS)
"""Headings of options in the order in which help shows them; options without a panel come last."""


class PanelCommand(TyperCommand):
    """A command whose help shows its options by `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options of each panel."""
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], **{panel: [] for panel in PANELS}}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                if parameter.param_type_name == "argument":
                    rows["Arguments"].append((record[0].partition(" <")[0], record[1]))  # without its Python type
                else:
                    rows[getattr(parameter, "rich_help_panel", None) or OPTIONS].append(record)
        _write_panels(formatter, rows)


class PanelGroup(TyperGroup):
    """A group of commands whose help shows them by `rich_help_panel`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write every command's summary under the heading of its panel."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        limit = formatter.width - 6 - max(map(len, commands))
        rows: dict[str, list[tuple[str, str]]] = {}
        for name, command in commands.items():
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                rows.setdefault(panel, []).append((name, command.get_short_help_str(limit)))
        _write_panels(formatter, rows)


def _write_panels(formatter: Any, panels: dict[str, list[tuple[str, str]]]) -> None:
    """Write a definition list under the title of each panel that has rows."""
    for title, rows in panels.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)
