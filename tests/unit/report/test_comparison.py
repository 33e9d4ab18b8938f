"""Two runs compared pair by pair, with numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefscope.ledger.pairing import PairedView, Pairing
from prefscope.ledger.table import load_ledger
from prefscope.report.comparison import QUADRANTS, Paired, cautions, compare, quadrant_filter
from prefscope.settings import LossChoice, PreferenceSettings
from prefscope.statistics import mcnemar

A = [1.0, -1.0, 0.5, 0.0, -2.0, 1.0]
B = [2.0, 1.0, -0.5, 0.0, 0.0, 1.0]
See = Callable[..., PairedView]
Z = 1.959963984540054


@pytest.fixture
def see(write_pairs: Callable[..., Path]) -> See:
    """Return a function that views a run of margins (at beta 0.1) with another beside it; None is a nan log-prob.

    Options of either run go to the writing of its ledger; `pairs` are what its pairs have besides.
    """

    def write(name: str, margins: Sequence[float | None], pairs: Sequence[dict[str, Any]] = (), **options: Any) -> Path:
        logps = [(math.nan if one is None else -52.0 + 10 * one, -60.0, -52.0, -60.0) for one in margins]
        more = pairs or [{}] * len(logps)
        rows = [{"logps": four, **one} for four, one in zip(logps, more, strict=True)]
        return write_pairs(rows, name=name, **options)

    def call(
        a: Sequence[float | None],
        b: Sequence[float | None],
        of_a: dict[str, Any] | None = None,
        of_b: dict[str, Any] | None = None,
        **preferences: Any,
    ) -> PairedView:
        first = load_ledger(write("a.parquet", a, **(of_a or {})))
        second = load_ledger(write("b.parquet", b, **(of_b or {})))
        return PairedView(first, PreferenceSettings(**preferences), None, second, Pairing(first, second))

    return call


def test_the_mean_of_the_differences_has_its_paired_bound() -> None:
    found = Paired.of(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 5.0, 5.0]))
    assert (found.a, found.b, found.difference) == (2.5, 3.5, 1.0)  # of 1, 0, 2 and 1
    half = Z * math.sqrt(2 / 3) / 2
    assert (found.low, found.high) == pytest.approx((1.0 - half, 1.0 + half))


def test_pairs_of_which_a_value_is_not_finite_are_left_out_of_both_means() -> None:
    found = Paired.of(np.array([1.0, math.nan, 3.0, math.inf]), np.array([2.0, 9.0, 4.0, 9.0]))
    assert found == Paired(2.0, 3.0, 1.0, 1.0, 1.0)


def test_one_pair_has_no_bound_and_none_no_mean() -> None:
    assert math.isnan(Paired.of(np.array([1.0]), np.array([2.0])).low)
    assert math.isnan(Paired.of(np.array([]), np.array([])).difference)


def test_accuracy_and_margin_are_compared_pair_by_pair(see: See) -> None:
    found = compare(see(A, B))
    assert (found.pairs, found.by_margin) == (6, True)
    assert (found.accuracy.a, found.accuracy.b, found.accuracy.difference) == (0.5, 0.5, 0.0)
    differences = np.array([1.0, 2.0, -1.0, 0.0, 2.0, 0.0])
    half = Z * differences.std(ddof=1) / math.sqrt(6)
    margin = found.margin
    means = (margin.a, margin.b, margin.difference)
    assert (*means, margin.high - margin.difference) == pytest.approx((-0.5 / 6, 3.5 / 6, 4 / 6, half))


def test_the_interval_of_a_difference_of_accuracies_is_that_of_newcombe() -> None:
    """Newcombe 1998, table II: 36 pairs right in both, 12 and 2 in one of them; it is not symmetric."""
    a, b = np.repeat([True, False, True], [36, 12, 2]), np.repeat([True, True, False], [36, 12, 2])
    found = Paired.of_shares(a, b)
    assert (found.difference, found.low, found.high) == pytest.approx((0.2, 0.0569, 0.3404), abs=1e-4)


@pytest.mark.parametrize("pairs", [1, 2, 3, 30])
def test_runs_that_never_differ_leave_room_for_a_difference(pairs: int) -> None:
    found = Paired.of_shares(np.ones(pairs, dtype=np.bool_), np.ones(pairs, dtype=np.bool_))
    assert -1 <= found.low < found.difference == 0 < found.high <= 1


def test_losses_are_compared_as_the_knobs_have_them(see: See) -> None:
    choices = (LossChoice("dpo", {"beta": 0.2}),)
    found = compare(see([1.0], [2.0], losses=choices)).losses
    assert list(found) == ["dpo"]
    assert found["dpo"].a == pytest.approx(math.log1p(math.exp(-2.0)))
    assert found["dpo"].difference == pytest.approx(math.log1p(math.exp(-4.0)) - math.log1p(math.exp(-2.0)))


def test_the_quadrants_have_every_pair_once_and_a_tie_is_right_in_none(see: See) -> None:
    found = compare(see(A, B))
    assert found.quadrants == {"both": 2, "only_b": 1, "only_a": 1, "neither": 2}
    assert found.quadrants["only_b"] - found.quadrants["only_a"] == found.pairs * found.accuracy.difference


def test_a_run_that_is_its_own_reference_ties_every_pair_and_ranks_none_right(see: See) -> None:
    found = compare(see([0.0] * 3, [1.0, 0.0, -1.0]))
    assert found.quadrants == {"both": 0, "only_b": 1, "only_a": 0, "neither": 2}


@pytest.mark.parametrize("quadrant", QUADRANTS)
@pytest.mark.parametrize("has_reference", [True, False], ids=["margins", "no reference"])
def test_the_filter_of_a_quadrant_finds_as_many_pairs_as_it_counts(
    see: See, quadrant: Any, *, has_reference: bool
) -> None:
    options = {} if has_reference else {"manifest": {"has_reference": False}}
    view = see([*A, None, 3.0], [*B, 1.0, None], options, options)
    found = compare(view)
    matching = view.filter(quadrant_filter(quadrant, by_margin=found.by_margin))
    assert found.pairs == sum(found.quadrants.values()) == 6
    assert int(matching.sum()) == found.quadrants[quadrant]


def test_pairs_are_matched_by_their_id_at_any_position(see: See) -> None:
    def ids(letters: str) -> dict[str, Any]:
        return {"pairs": [{"pair_id": letter * 16} for letter in letters]}

    view = see([1.0, -1.0, 2.0], [3.0, 5.0, 4.0], ids("abc"), ids("cxa"))
    found = compare(view)
    assert found.pairs == 2
    assert np.stack(found.margins) == pytest.approx(np.array([[1.0, 2.0], [4.0, 3.0]]))
    assert cautions(view, found) == ["A is missing 1 of B's pairs, B is missing 1 of A's"]


def test_the_length_bias_is_that_of_the_shared_pairs_in_each_run(see: See) -> None:
    lengths = {"pairs": [{"chosen_num_tokens": count} for count in (10, 20, 30)]}
    found = compare(see([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], lengths, lengths))
    assert found.length_bias == pytest.approx((1.0, -1.0))


def test_pairs_with_a_non_finite_log_prob_are_left_out_with_a_note(see: See) -> None:
    view = see([1.0, None, 1.0], [1.0, 1.0, None])
    found = compare(view)
    assert found.pairs == 1
    assert cautions(view, found) == ["left out because a log-prob is not finite: 2 of the shared pairs"]


def test_without_a_reference_log_probs_per_token_are_compared(see: See) -> None:
    view = see([1.0], [2.0], of_b={"manifest": {"has_reference": False}})
    found = compare(view)
    assert not found.by_margin
    assert [*found.losses] == ["simpo"]
    assert found.margin.a == pytest.approx(-42 / 20 + 60 / 30)
    assert found.margin.b == pytest.approx(-32 / 20 + 60 / 30)
    assert cautions(view, found) == ["A or B has no reference: compared by log-prob per token, chosen − rejected"]


def test_ledgers_without_shared_pairs_have_a_note_and_no_numbers(see: See) -> None:
    view = see([1.0], [2.0], of_b={"pairs": [{"pair_id": "f" * 16}]})
    found = compare(view)
    assert (found.pairs, set(found.quadrants.values())) == (0, {0})
    assert math.isnan(found.margin.difference)
    assert cautions(view, found) == ["A and B share no pair: score the same data set with both checkpoints"]


def test_different_references_are_noted(see: See) -> None:
    models = {"models": {"ref": {"fingerprint": "another"}}}
    view = see([1.0], [2.0], of_b={"manifest": models})
    assert cautions(view, compare(view)) == ["the references differ; the margins of each run are relative to its own"]


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"),
    [(0, 0, 1.0), (3, 3, 1.0), (0, 1, 1.0), (0, 5, 2 / 32), (5, 0, 2 / 32), (2, 8, 2 * 56 / 1024)],
)
def test_mcnemars_test_is_that_of_a_fair_coin(only_a: int, only_b: int, expected: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(expected)


def test_mcnemars_test_is_right_for_many_pairs_too() -> None:
    tail = sum(Fraction(math.comb(2000, k), 2**2000) for k in range(951))
    assert mcnemar(950, 1050) == pytest.approx(float(2 * tail))
    assert 0 < mcnemar(499_000, 501_000) < 0.05
