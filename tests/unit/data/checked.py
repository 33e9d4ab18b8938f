"""Pairs to check, and the findings in them."""

from __future__ import annotations

import random

from prefscope.data.checks import LintFinding, LintReport
from prefscope.data.records import Message, PreferencePair, Text

WORDS = ("river", "stone", "lamp", "green", "seven", "music", "table", "winter", "cloud", "paper", "glass", "train")


def sentence(seed: int, words: int = 20) -> str:
    drawn = random.Random(seed)  # noqa: S311 (no secret)
    return " ".join(drawn.choice(WORDS) for _ in range(words)) + f" {seed}."


def pair(
    row: int, prompt: Text | None = None, chosen: Text | None = None, rejected: Text | None = None
) -> PreferencePair:
    """Return a pair with unique texts, except for those passed."""
    return PreferencePair(
        row,
        row + 1,
        sentence(3 * row) if prompt is None else prompt,
        sentence(3 * row + 1) if chosen is None else chosen,
        sentence(3 * row + 2) if rejected is None else rejected,
    )


def conversation(row: int, *turns: tuple[str, str]) -> PreferencePair:
    """Return a pair with these turns as its prompt."""
    answers = ((Message("assistant", text),) for text in (sentence(3 * row + 1), sentence(3 * row + 2)))
    return pair(row, tuple(Message(*turn) for turn in turns), *answers)


CLEAN = [pair(row) for row in range(40)]


def findings(report: LintReport) -> dict[str, LintFinding]:
    """Return the findings by check."""
    return {finding.check.name: finding for finding in report.findings if not finding.is_clean}


def rows_of(report: LintReport) -> dict[str, list[int]]:
    return {name: finding.found.rows.tolist() for name, finding in findings(report).items()}
