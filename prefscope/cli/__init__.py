"""The command line: parse options, call the core, print results. Computation and formatting live elsewhere."""

from prefscope.cli.app import app, main

__all__ = ["app", "main"]
