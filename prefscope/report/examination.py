"""What a report tells beyond its summary: the diagnosis, subsets, and the labels to look at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefscope.ledger.view import View
from prefscope.report.diagnosis import Diagnosis, diagnose
from prefscope.report.diagnosis_sections import diagnosis_table, subsets_table
from prefscope.report.sections import WIDE, Table
from prefscope.report.subsets import Grouping, group_by, groupable
from prefscope.report.summary import finite_or_none
from prefscope.report.suspects import Suspect, suspects


@dataclass(frozen=True, slots=True)
class Examination:
    """Whatever of it was asked for."""

    diagnosis: Diagnosis | None
    groupings: tuple[Grouping, ...]
    suspects: tuple[Suspect, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values: `diagnosis` by finding, `subsets` by column; non-finite ones are None."""
        found: dict[str, Any] = {}
        if self.diagnosis is not None:
            found["diagnosis"] = self.diagnosis.to_json()
        if self.groupings:
            found["subsets"] = {one.column: one.to_json() for one in self.groupings}
        cleaned: dict[str, Any] = finite_or_none(found)
        return cleaned

    def tables(self, width: int) -> list[Table]:
        """Return diagnosis and subsets as tables for a width in cells."""
        found = (
            [diagnosis_table(self.diagnosis, wide=width >= WIDE)]
            if self.diagnosis is not None and self.diagnosis.findings
            else []
        )
        return found + [subsets_table(one) for one in self.groupings]


def examine(view: View, by: Sequence[str] = (), *, diagnosis: bool = True) -> Examination:
    """Return the diagnosis of a ledger, if wanted, and its subsets by some columns.

    Raises:
        UsageError: The ledger has no such column.
    """
    groupings = tuple(group_by(view, name) for name in dict.fromkeys(by))
    return Examination(diagnose(view) if diagnosis else None, groupings, ())


def examine_wholly(view: View, by: Sequence[str] = (), *, diagnosis: bool = True) -> Examination:
    """Return all that a report file tells: without columns named, subsets by those that are worth it, and suspects.

    Raises:
        UsageError: The ledger has no such column.
    """
    found = examine(view, by or groupable(view), diagnosis=diagnosis)
    return Examination(found.diagnosis, found.groupings, tuple(suspects(view)) if diagnosis else ())
