"""Checks of a data set that need no model: registered functions, run in one pass over the pairs."""

from __future__ import annotations

from prefscope.data.checks.check import CHECKS, Check, Example, Found, find_check
from prefscope.data.checks.lint import LintFinding, LintReport, index_texts, lint_pairs

__all__ = [
    "CHECKS",
    "Check",
    "Example",
    "Found",
    "LintFinding",
    "LintReport",
    "find_check",
    "index_texts",
    "lint_pairs",
]
