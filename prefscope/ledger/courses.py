"""The course of every pair over the checkpoints of a training, as columns of a view."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prefscope.ledger.filters import Kind
from prefscope.preference.diagnostics.trajectories import Trajectories, trajectories

LEAST_RUNS = 3
"""Of two runs, a comparison says all there is."""
KINDS: Mapping[str, Kind] = {
    "course": "text",
    "learnt_at": "number",
    "flips": "number",
    "confidence": "number",
    "variability": "number",
}
FIELDS = {"course": "courses"}
"""The fields of `Trajectories` that have another name than their column."""
PREFIX = "run_"
COMMON = 95
"""Percentile of the sizes of margins that is their scale."""


def course_names(own: Collection[str]) -> dict[str, str]:
    """Return the names of the columns beside a data set's own: a data set's own `flips` leaves `run_flips` to ours.

    The values say which column a name is.
    """
    names = {}
    for column in KINDS:
        name = column
        while name in own:
            name = PREFIX + name
        names[name] = column
    return names


@dataclass(frozen=True, slots=True)
class Courses:
    """The margins of pairs over three or more runs, in the order of training."""

    steps: tuple[int, ...]
    """The step of each run; 1, 2, 3, … if that is unknown."""
    gaps: NDArray[np.float64]
    """Margins for a beta of 1, in nats; nan for a pair that a run does not have. Shape (runs, pairs)."""
    scale: float
    """The size that most of them do not exceed, in nats."""

    @classmethod
    def of(cls, steps: Sequence[int], gaps: NDArray[np.float64]) -> Courses:
        """Return the courses, with the scale that shows most of them."""
        sizes = np.abs(gaps[np.isfinite(gaps)])
        return cls(tuple(steps), gaps, float(np.percentile(sizes, COMMON)) if sizes.size else 0.0)

    def heights(self, position: int) -> NDArray[np.float64]:
        """Return the margins of a pair over the runs as shares of a line: ½ for 0, 0 and 1 for the scale and beyond.

        Shape (runs,), empty if a run does not have the pair.
        """
        gaps = self.gaps[:, position]
        if not np.isfinite(gaps).all():
            return np.empty(0)
        heights: NDArray[np.float64] = np.clip(0.5 + 0.5 * gaps / (self.scale or 1.0), 0.0, 1.0)
        return heights

    def only(self, wanted: NDArray[np.bool_]) -> Courses:
        """Return the courses of the pairs selected by a mask."""
        return Courses(self.steps, self.gaps[:, wanted], self.scale)

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Whether every run has a finite margin of the pair. Shape (pairs,)."""
        known: NDArray[np.bool_] = np.all(np.isfinite(self.gaps), axis=0)
        return known

    def column(self, name: str, beta: float) -> NDArray[Any]:
        """Return a column of `KINDS`; nan or "" for the pairs that not every run has.

        `learnt_at` is the step from which on the pair is right up to the last run; nan if it is wrong there.
        """
        known = self.is_known
        found = trajectories(beta * self.gaps[:, known])
        column = np.full(known.size, "", dtype=object) if KINDS[name] == "text" else np.full(known.size, np.nan)
        column[known] = self._learnt_at(found) if name == "learnt_at" else getattr(found, FIELDS.get(name, name))
        return column

    def _learnt_at(self, found: Trajectories) -> NDArray[np.float64]:
        is_right = np.isin(found.courses, ("always", "learnt"))
        return np.where(is_right, np.asarray(self.steps, dtype=np.float64)[found.settled], np.nan)
