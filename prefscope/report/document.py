"""The content of a report file, before it is written as Markdown or HTML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.report.cards import Card, cards
from prefscope.report.cases import CaseList, case_lists
from prefscope.report.diagnosis import Diagnosis
from prefscope.report.diagnosis_sections import suspects_table
from prefscope.report.examination import examine_wholly
from prefscope.report.sections import WIDE, Section, build_sections, headline
from prefscope.report.summary import summarise
from prefscope.report.token_steps import Steps
from prefscope.report.visible import visible_lines
from prefscope.settings import PreferenceSettings


@dataclass(frozen=True, slots=True)
class Document:
    """A report."""

    lines: tuple[str, ...]
    cards: tuple[Card, ...]
    sections: tuple[Section, ...]
    diagnosis: Diagnosis | None
    case_lists: tuple[CaseList, ...]
    steps: Steps
    """Thresholds of |Δ| from which tokens of cases are coloured."""
    manifest: str
    """Indented JSON, safe to show."""
    view: View
    """Source of the plots' data."""


def build_document(
    ledger: Ledger, preferences: PreferenceSettings, by: Sequence[str] = (), *, diagnosis: bool = True
) -> Document:
    """Return the report of a ledger.

    Args:
        ledger: The ledger to report on.
        preferences: Beta and losses.
        by: Columns of subsets; by default, the data set's columns with few values.
        diagnosis: Whether to include the diagnosis, and pairs token by token.

    Raises:
        UsageError: The ledger has no such column, or a requested loss cannot be computed from it.
    """
    view = View(ledger, preferences)
    summary = summarise(ledger, preferences)
    examined = examine_wholly(view, by, diagnosis=diagnosis)
    lists, steps = case_lists(view, examined.suspects)
    worst = suspects_table(examined.suspects) if examined.suspects else None
    return Document(
        lines=tuple(headline(summary)),
        cards=tuple(cards(view)),
        sections=tuple(build_sections(summary, ledger, preferences, WIDE, examined.all_tables(WIDE), worst)),
        diagnosis=examined.diagnosis,
        case_lists=lists if diagnosis else (),
        steps=steps,
        manifest=visible_lines(json.dumps(ledger.manifest, indent=2, ensure_ascii=False)),
        view=view,
    )
