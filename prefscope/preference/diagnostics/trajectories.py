"""Trajectories: how the ranking of each pair changes over the checkpoints of a training run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.arrays import sigmoid
from prefscope.preference.diagnostics.diagnostic import Values

COURSES = {
    "always": "right at every checkpoint",
    "learnt": "right at the last checkpoint, wrong at one or more before",
    "forgotten": "wrong at the last checkpoint, right at one or more before",
    "never": "right at no checkpoint",
}
"""The possible courses of a pair; right means a margin above 0, wrong any other."""


@dataclass(frozen=True, slots=True)
class Trajectories:
    """The pairs over K checkpoints; each array has shape (pairs,)."""

    confidence: Values
    """μ, the mean of σ(m) over the checkpoints; from 0 to 1."""
    variability: Values
    """The standard deviation of σ(m) over the checkpoints; from 0 to 0.5."""
    correctness: Values
    """The share of checkpoints that rank the pair right."""
    courses: NDArray[np.str_]
    """The course of each pair, a key of `COURSES`."""
    flips: NDArray[np.int64]
    """How often the ranking of each pair changes from one checkpoint to the next."""
    settled: NDArray[np.int64]
    """The first checkpoint from which on each pair is ranked as at the last one. Counted from 0."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of pairs by course."""
        return {name: int(np.count_nonzero(self.courses == name)) for name in COURSES}


def trajectories(margins: Values) -> Trajectories:
    """Compute confidence, variability, correctness and the course of each pair.

    Definition: with p_e = σ(m_e) at checkpoint e, confidence is mean_e p_e, variability √(mean_e (p_e − mean)²), and
    correctness mean_e 1[m_e > 0]. A pair flips between e and e + 1 if 1[m_e > 0] changes.

    Args:
        margins: m in beta·nats, finite, checkpoints in order. Shape (checkpoints, pairs).

    References:
        Swayamdipta et al. 2020, "Dataset Cartography", arXiv 2009.10795, with σ(m) as the probability of the label.

    >>> trajectories(np.array([[-1.0, 1.0], [1.0, -1.0]])).courses.tolist()
    ['learnt', 'forgotten']
    """
    sure, right = sigmoid(margins), margins > 0
    ever, last = right.any(axis=0), right[-1]
    changes = right[1:] != right[:-1]
    after_last = np.arange(1, len(right))[:, None] * changes  # 0 where nothing changes
    conditions = [right.all(axis=0), last, ever]
    return Trajectories(
        confidence=sure.mean(axis=0),
        variability=sure.std(axis=0),
        correctness=right.mean(axis=0),
        courses=np.select(conditions, ["always", "learnt", "forgotten"], default="never"),
        flips=changes.sum(axis=0),
        settled=after_last.max(axis=0, initial=0),
    )
