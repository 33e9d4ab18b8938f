"""The command line: parse, call the core, report. No maths and no formatting live here."""

from prefscope.cli.app import app, main

__all__ = ["app", "main"]
