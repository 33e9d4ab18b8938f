"""The result of `prefscope compare`: the first run against the last, and every pair's course in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from prefscope.ledger.courses import LEAST_RUNS
from prefscope.ledger.pairing import PairedView, Pairing, courses_of, run_names
from prefscope.ledger.table import Ledger
from prefscope.report.alarms import alarms
from prefscope.report.checkpoints import Followed, follow
from prefscope.report.compare_sections import comparison_sections, trajectory_sections
from prefscope.report.comparison import Comparison, cautions, compare
from prefscope.report.sections import NO_CHECKSUM, Section
from prefscope.report.summary import JSON_SCHEMA, finite_or_none
from prefscope.report.visible import visible
from prefscope.settings import PreferenceSettings
from prefscope.statistics import bootstrap_bounds


@dataclass(frozen=True, slots=True)
class Compared:
    """Two or more runs on the selected pairs."""

    view: PairedView
    """The first run, A, paired with the last, B."""
    comparison: Comparison
    ledgers: tuple[Ledger, ...]
    followed: Followed | None
    """None if a ledger has no reference, and so no margins."""

    def headline(self) -> list[str]:
        """Return the names of the runs and notes on them, in a few lines of safe text."""
        names = run_names(self.ledgers)
        lines = [f"A {visible(names[0])}", f"B {visible(names[-1])}"]
        lines += [f"   {self.comparison.pairs:,} shared pairs, beta {self.view.preferences.beta:g}"]
        old = [visible(name) for name, one in zip(names, self.ledgers, strict=True) if not one.has_checksums]
        lines += [f"   note: {name} is {NO_CHECKSUM}." for name in old]
        lines += [f"   note: {sentence}." for sentence in cautions(self.view, self.comparison)]
        return lines + [f"   alarm: {sentence}." for sentence in self.alarms]

    @property
    def alarms(self) -> list[str]:
        """What goes wrong in a training of three or more runs, as sentences without full stops."""
        if self.followed is None or not self.is_training:
            return []
        return [one.sentence for one in alarms(self.followed.training)]

    @property
    def is_training(self) -> bool:
        """Whether there are enough runs to follow a training."""
        return len(self.ledgers) >= LEAST_RUNS

    def sections(self, width: int) -> list[Section]:
        """Return the differences and, for three or more runs, the courses of the pairs, for a width in cells."""
        several: list[Section] = []
        if self.followed is not None and self.is_training:
            several = trajectory_sections(self.followed, width)
        return [*several, *comparison_sections(self.view, self.comparison)]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; non-finite ones are None."""
        found, followed = self.comparison, self.followed
        losses = {f"loss/{name}": paired for name, paired in found.losses.items()}
        means = {"accuracy": found.accuracy, "margin": found.margin} | losses
        names = run_names(self.ledgers)
        value = {
            "schema": JSON_SCHEMA,
            "pairs": found.pairs,
            "beta": self.view.preferences.beta,
            "runs": [{"name": name, "ledger": str(one.path)} for name, one in zip(names, self.ledgers, strict=True)],
            "differences": {name: asdict(paired) for name, paired in means.items()},
            "quadrants": dict(found.quadrants),
            "mcnemar_p": found.p_value,
            "courses": None if followed is None else followed.trajectories.counts,
            **({} if followed is None else followed.training.to_json()),
            "alarms": self.alarms,
            "notes": cautions(self.view, found),
        }
        cleaned: dict[str, Any] = finite_or_none(value)
        return cleaned


def compare_runs(
    ledgers: Sequence[Ledger],
    preferences: PreferenceSettings,
    where: str | None = None,
    steps: Sequence[int] | None = None,
    by: str = "",
) -> Compared:
    """Return the differences between the first ledger and the last, and the courses of the pairs that all share.

    Args:
        ledgers: Two or more ledgers of the same pairs, in the order of training.
        preferences: Beta and losses.
        where: Expression that selects pairs; columns of the last run have the suffix `_b`.
        steps: The step of each ledger; None if it is unknown.
        by: A column to group the pairs of three or more ledgers by; empty for none.

    Raises:
        FilterError: The expression is malformed, or names an unknown column.
        UsageError: There is no column to group by.
    """
    first, *between, last = ledgers
    view = _paired(first, last, preferences)
    if where is not None:
        known = range(1, len(ledgers) + 1) if steps is None else steps
        courses = courses_of(ledgers, known, 0, lambda number: Pairing(ledgers[0], ledgers[number]))
        first, last = _only(view.with_courses(courses), where)
        view = _paired(first, last, preferences)
    runs = (first, *between, last)
    followed = follow(runs, preferences, steps, by) if all(run.has_reference for run in runs) else None
    return Compared(view, compare(view, bootstrap_bounds), runs, followed)


def _only(view: PairedView, where: str) -> tuple[Ledger, Ledger]:
    """Return both ledgers, reduced to the shared pairs that match."""
    kept, other = view.filter(where), view.other.ledger
    first, second = view.pairing.positions
    masks = np.zeros(view.ledger.num_pairs, dtype=np.bool_), np.zeros(other.num_pairs, dtype=np.bool_)
    masks[0][first[kept[first]]], masks[1][second[kept[first]]] = True, True
    return view.ledger.only(masks[0]), other.only(masks[1])


def _paired(first: Ledger, last: Ledger, preferences: PreferenceSettings) -> PairedView:
    return PairedView(first, preferences, None, last, Pairing(first, last))
