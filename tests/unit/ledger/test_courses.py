"""The course of every pair over three or more runs, as columns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefscope.ledger.courses import Courses
from prefscope.ledger.pairing import PairedView, Pairing, courses_of
from prefscope.ledger.table import Ledger, load_ledger
from prefscope.ledger.view import View
from prefscope.settings import PreferenceSettings

DEFAULT = PreferenceSettings()
STEPS = (100, 200, 300, 400)
GAPS = {
    "always": (1.0, 2.0, 3.0, 4.0),
    "learnt late": (-1.0, -2.0, -1.0, 4.0),
    "learnt, lost, learnt again": (-1.0, 2.0, -1.0, 4.0),
    "forgotten": (1.0, 2.0, -1.0, -4.0),
    "never": (-1.0, -1.0, 0.0, -1.0),
}

Runs = list[Ledger]


@pytest.fixture
def runs(write_pairs: Callable[..., Path]) -> Runs:
    """Return a run for every step, with the pairs of GAPS."""
    return [
        load_ledger(
            write_pairs(
                [{"logps": (gaps[at], 0.0, 0.0, 0.0), "pair_id": name} for name, gaps in GAPS.items()],
                name=f"{step}.parquet",
            )
        )
        for at, step in enumerate(STEPS)
    ]


def followed(runs: Runs, shown: int = -1) -> View:
    """Return the view of a run with the courses of its pairs."""
    shown %= len(runs)
    courses = courses_of(runs, STEPS, shown, lambda number: Pairing(runs[shown], runs[number]))
    return View(runs[shown], DEFAULT).with_courses(courses)


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("learnt_at > 300", ["learnt late", "learnt, lost, learnt again"]),
        ("learnt_at <= 100", ["always"]),
        ("flips >= 2", ["learnt, lost, learnt again"]),
        ("flips == 1", ["learnt late", "forgotten"]),
        ('course == "forgotten"', ["forgotten"]),
        ('course in ("never", "learnt") and margin < 0', ["never"]),
        ("confidence > 0.5 and variability < 0.1", ["always", "learnt, lost, learnt again"]),
    ],
)
@pytest.mark.parametrize("shown", range(4))
def test_courses_are_columns_of_filters_whatever_run_is_shown(
    runs: Runs, shown: int, expression: str, found: list[str]
) -> None:
    view = followed(runs, shown)
    if "margin" in expression and shown != 3:
        pytest.skip("margins are those of the run that is shown")
    assert view.ledger.stored["pair_id"][view.filter(expression)].tolist() == found


def test_two_runs_have_no_courses(runs: Runs) -> None:
    assert courses_of(runs[:2], STEPS[:2], 0, lambda _: Pairing(*runs[:2])) is None
    assert "flips" not in View(runs[0], DEFAULT).names.kinds


def test_a_run_without_a_reference_has_no_courses(runs: Runs, write_pairs: Callable[..., Path]) -> None:
    path = write_pairs([{"logps": (-1.0, -2.0, None, None)}], manifest={"has_reference": False}, name="alone.parquet")
    assert courses_of([*runs, load_ledger(path)], (*STEPS, 500), 0, lambda n: Pairing(runs[0], runs[n])) is None


def test_a_pair_that_one_run_lacks_has_no_course(runs: Runs) -> None:
    runs[1] = runs[1].only(np.array([True, False, True, True, True]))
    view = followed(runs)
    assert view.column("course").tolist() == ["always", "", "learnt", "forgotten", "never"]
    assert np.isnan(view.column("flips")).tolist() == [False, True, False, False, False]
    assert view.courses is not None
    assert view.courses.heights(1).size == 0


def test_a_slice_keeps_the_courses_of_its_pairs(runs: Runs) -> None:
    view = followed(runs)
    view.column("flips")
    part = view.only(view.filter("flips > 0"))
    assert part.column("course").tolist() == ["learnt", "learnt", "forgotten"]
    assert part.column("flips").tolist() == [1, 3, 1]


def test_a_paired_view_keeps_its_courses_too(runs: Runs) -> None:
    pairing = Pairing(runs[3], runs[0])
    courses = courses_of(runs, STEPS, 3, lambda number: Pairing(runs[3], runs[number]))
    view = PairedView(runs[3], DEFAULT, None, runs[0], pairing).with_courses(courses)
    part = view.only(view.filter("margin_b < 0 and learnt_at > 300"))
    assert part.column("pair_id").tolist() == ["learnt late", "learnt, lost, learnt again"]


@pytest.mark.parametrize("own", ["flips", "course", "confidence"])
def test_a_data_sets_own_column_keeps_its_name(write_pairs: Callable[..., Path], own: str) -> None:
    extra: dict[str, Any] = {own: ("text", ["mine"])}
    runs = [
        load_ledger(write_pairs([{"logps": (gap, 0.0, 0.0, 0.0)}], extra=extra, name=f"{gap}.parquet"))
        for gap in (-1.0, 1.0, 2.0)
    ]
    courses = courses_of(runs, (1, 2, 3), 0, lambda number: Pairing(runs[0], runs[number]))
    view = View(runs[0], DEFAULT).with_courses(courses)
    assert view.column(own).tolist() == ["mine"]
    assert view.filter(f'{own} == "mine"').all()
    assert view.column(f"run_{own}").size == 1


def test_bars_have_their_middle_at_a_tie() -> None:
    courses = Courses.of((1, 2, 3), np.array([[-10.0], [0.0], [5.0]]))
    assert courses.heights(0).round(2).tolist() == [0.0, 0.5, 0.76]
