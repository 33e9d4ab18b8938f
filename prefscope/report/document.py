"""The content of reports: as sections for a terminal, and as a document for Markdown and HTML files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from prefscope.ledger.table import Ledger
from prefscope.ledger.view import View
from prefscope.report.cards import Card, cards
from prefscope.report.cases import CaseList, case_lists
from prefscope.report.diagnosis import Finding
from prefscope.report.diagnosis_sections import suspects_table
from prefscope.report.examination import Examination, examine_wholly
from prefscope.report.pair_plots import PlotData, character_plots, plot_data
from prefscope.report.sections import (
    WIDE,
    Section,
    Table,
    flags_table,
    headline,
    losses_table,
    metrics_table,
    worst_table,
)
from prefscope.report.summary import Summary, summarise
from prefscope.report.visible import visible_lines
from prefscope.settings import PreferenceSettings


@dataclass(frozen=True, slots=True)
class Document:
    """The content of a report file; tables are None if they would be empty."""

    lines: tuple[str, ...]
    cards: tuple[Card, ...]
    metrics: Table
    losses: Table | None
    plots: PlotData
    diagnosis: Table | None
    findings: tuple[Finding, ...]
    """The findings of the diagnosis, with their formulas and sources."""
    details: tuple[Table, ...]
    """Accuracy by difference in length, label noise by split, and subsets."""
    flags: Table | None
    worst: Table | None
    case_lists: tuple[CaseList, ...]
    manifest: str
    """Indented JSON, safe to show."""


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
    return Document(
        lines=tuple(headline(summary)),
        cards=tuple(cards(view)),
        metrics=metrics_table(summary),
        losses=losses_table(summary),
        plots=plot_data(view, examined.diagnosis),
        diagnosis=examined.diagnosis_table(WIDE),
        findings=() if examined.diagnosis is None else examined.diagnosis.findings,
        details=(*examined.length_tables(), *examined.split_tables(), *examined.subset_tables()),
        flags=flags_table(summary),
        worst=suspects_table(examined.suspects) if examined.suspects else worst_table(summary),
        case_lists=case_lists(view, examined.suspects) if diagnosis else (),
        manifest=visible_lines(json.dumps(ledger.manifest, indent=2, ensure_ascii=False)),
    )


def build_sections(summary: Summary, view: View, width: int, examined: Examination | None = None) -> list[Section]:
    """Return the sections of a report on a terminal.

    Args:
        summary: The numbers.
        view: The ledger with beta and losses; the source of the plots.
        width: Width of the terminal in cells.
        examined: Diagnosis and subsets to include.
    """
    found = [] if examined is None else _found(examined, width)
    plots = character_plots(plot_data(view), width)
    sections = [metrics_table(summary), losses_table(summary), *plots, *found, flags_table(summary)]
    return [one for one in (*sections, worst_table(summary)) if one is not None]


def _found(examined: Examination, width: int) -> list[Table | None]:
    return [examined.diagnosis_table(width), *examined.split_tables(), *examined.subset_tables()]
