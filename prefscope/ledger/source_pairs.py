"""Recover the pairs of a ledger's data set, to run lint checks on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from weakref import WeakKeyDictionary

from prefscope.data.checks import LintReport, lint_pairs
from prefscope.data.dialects import NotAPairError, normalise
from prefscope.data.records import PreferencePair, SourceRow
from prefscope.ledger.table import Ledger

_REPORTS: WeakKeyDictionary[Ledger, LintReport] = WeakKeyDictionary()
_COLUMNS = ["row", "line", "prompt", "chosen", "rejected", "source_json"]


def lint_of(ledger: Ledger) -> LintReport:
    """Run the checks of `prefscope lint` on a ledger's texts; the report is cached for the lifetime of the ledger."""
    if ledger not in _REPORTS:
        _REPORTS[ledger] = lint_pairs(source_pairs(ledger))
    return _REPORTS[ledger]


def is_linted(ledger: Ledger) -> bool:
    """Return whether the report of a ledger is cached."""
    return ledger in _REPORTS


def source_pairs(ledger: Ledger) -> Iterator[PreferencePair]:
    """Yield the pairs in the ledger's order, with their turns; as plain texts if the source row cannot be read."""
    asked = ledger.manifest.get("settings", {}).get("data", {})
    dialect, mapping = asked.get("dialect", "auto"), asked.get("mapping")
    for group in ledger.read(_COLUMNS):
        for row, line, prompt, chosen, rejected, source in zip(*group.values(), strict=True):
            try:
                value = json.loads(source)
                pair, _ = normalise(SourceRow(row, line, value), dialect=dialect, mapping=mapping)
            except (ValueError, TypeError, NotAPairError):
                pair = PreferencePair(row, line, prompt or "", chosen or "", rejected or "")
            yield pair
