"""The courses of pairs over checkpoints, compared with numbers computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prefscope.preference.diagnostics.trajectories import COURSES, trajectories

LOG_3 = math.log(3)  # σ is 3/4 there


def test_the_course_of_a_pair_follows_from_when_it_was_right() -> None:
    columns = {
        "always": [1, 2, 3],
        "learnt": [-1, -1, 1],
        "forgotten": [-1, 1, -1],
        "never": [-1, 0, -2],
    }
    found = trajectories(np.array([*columns.values()], dtype=np.float64).T)
    assert found.courses.tolist() == [*columns]
    assert found.counts == dict.fromkeys(COURSES, 1)


def test_an_oscillating_pair_is_classified_by_its_last_checkpoint() -> None:
    assert trajectories(np.array([[1.0], [-1.0], [1.0]])).courses.tolist() == ["learnt"]


def test_confidence_and_variability_are_mean_and_deviation_of_the_probability() -> None:
    found = trajectories(np.array([[-LOG_3], [LOG_3]]))
    assert found.confidence.tolist() == pytest.approx([0.5])
    assert found.variability.tolist() == pytest.approx([0.25])
    assert found.correctness.tolist() == [0.5]


def test_no_pairs_give_no_courses() -> None:
    assert trajectories(np.empty((3, 0))).counts == dict.fromkeys(COURSES, 0)
