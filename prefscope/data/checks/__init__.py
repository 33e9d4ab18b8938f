"""Checks of a data set that need no model: one pass over the pairs, each check a registered function."""

from __future__ import annotations

from prefscope.data.checks.check import CHECKS, Check, Example, Found, find_check
from prefscope.data.checks.lint import LintFinding, LintReport, distil, lint_pairs

__all__ = ["CHECKS", "Check", "Example", "Found", "LintFinding", "LintReport", "distil", "find_check", "lint_pairs"]
