"""The parts of a report after its summary: diagnosis, subsets, and suspicious labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from prefscope.ledger.view import View
from prefscope.preference.diagnostics import LengthBias
from prefscope.report.diagnosis import Diagnosis, diagnose
from prefscope.report.diagnosis_sections import diagnosis_table, length_table, splits_table, subsets_table
from prefscope.report.sections import WIDE, Table
from prefscope.report.split_noise import SplitNoise, noise_by_split
from prefscope.report.subsets import Grouping, group_by, groupable
from prefscope.report.summary import finite_or_none
from prefscope.report.suspects import Suspect, suspects


@dataclass(frozen=True, slots=True)
class Examination:
    """The requested parts; the others are None or empty."""

    diagnosis: Diagnosis | None
    groupings: tuple[Grouping, ...]
    suspects: tuple[Suspect, ...]
    splits: tuple[SplitNoise, ...] = ()
    """The label noise of each split, for a diagnosis of a ledger with splits."""

    def to_json(self) -> dict[str, Any]:
        """Return JSON values: `diagnosis` by finding, `noise_by_split`, `subsets` by column; None if not finite."""
        found: dict[str, Any] = {}
        if self.diagnosis is not None:
            found["diagnosis"] = self.diagnosis.to_json()
        if self.splits:
            found["noise_by_split"] = [one.to_json() for one in self.splits]
        if self.groupings:
            found["subsets"] = {one.column: one.to_json() for one in self.groupings}
        cleaned: dict[str, Any] = finite_or_none(found)
        return cleaned

    def diagnosis_table(self, width: int) -> Table | None:
        """Return the table of findings for a width in cells, or None without any."""
        if self.diagnosis is None or not self.diagnosis.findings:
            return None
        return diagnosis_table(self.diagnosis, wide=width >= WIDE)

    def length_tables(self) -> list[Table]:
        """Return the accuracy by difference in length, if the diagnosis has it."""
        figures = (one.figures for one in self.diagnosis.findings) if self.diagnosis is not None else ()
        return [length_table(one) for one in figures if isinstance(one, LengthBias) and one.bins]

    def split_tables(self) -> list[Table]:
        """Return the label noise of each split, if there are splits."""
        return [splits_table(self.splits)] if self.splits else []

    def subset_tables(self) -> list[Table]:
        """Return a table for every grouping."""
        return [subsets_table(one) for one in self.groupings]


def examine(view: View, by: Sequence[str] = (), *, diagnosis: bool = True) -> Examination:
    """Return the diagnosis of a ledger, unless switched off, and its subsets by some columns.

    Raises:
        UsageError: The ledger has no such column.
    """
    groupings = tuple(group_by(view, name) for name in dict.fromkeys(by))
    found, splits = (diagnose(view), noise_by_split(view)) if diagnosis else (None, ())
    return Examination(found, groupings, (), splits)


def examine_wholly(view: View, by: Sequence[str] = (), *, diagnosis: bool = True) -> Examination:
    """Return the parts of a report file: with suspects and, unless columns are named, subsets by suitable ones.

    Raises:
        UsageError: The ledger has no such column.
    """
    found = examine(view, by or groupable(view), diagnosis=diagnosis)
    return replace(found, suspects=tuple(suspects(view)) if diagnosis else ())
