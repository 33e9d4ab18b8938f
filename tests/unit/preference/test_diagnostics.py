"""Every diagnostic compared with values computed by hand, and its conclusion on both sides of its rule."""

from __future__ import annotations

import math
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from prefscope.preference.diagnostics import (
    DIAGNOSTICS,
    best_beta,
    calibration,
    concentration,
    displacement,
    gradient_weights,
    length_bias,
    quadrants,
    quantile_edges,
    ranking,
    reference,
    residual_margins,
    subsets,
    token_shares,
)
from prefscope.preference.diagnostics.concentration import TokenShares
from prefscope.preference.diagnostics.ranking import Ranking
from prefscope.statistics import mean_interval

A, B = (-50.0, -60.0, -52.0, -58.0), (-50.0, -80.0, -46.0, -70.0)  # MATHS 2.8: p_w, p_l, q_w, q_l
MARGINS = hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-50, 50))


def values(*numbers: float) -> NDArray[np.float64]:
    return np.array(numbers, dtype=np.float64)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("diagnostic", DIAGNOSTICS.values(), ids=lambda one: one.name)
def test_every_diagnostic_has_title_formula_source_and_rule(diagnostic: object) -> None:
    assert [name for name in ("title", "formula", "source", "rule", "basis") if not getattr(diagnostic, name)] == []


@pytest.mark.parametrize("name", [name for name in DIAGNOSTICS if name != "concentration"])
def test_every_diagnostic_reports_too_little_data_without_pairs(name: str) -> None:
    diagnostic = DIAGNOSTICS[name]
    found = diagnostic.measure(*(values() for _ in diagnostic.inputs)).conclude()
    assert (found.sentence, found.warns) == ("Not enough data", False)


# Displacement


def test_each_pair_is_in_the_quadrant_of_its_signs() -> None:
    a, c = values(1, 1, -1, -1, 0, math.nan), values(-1, 2, -2, 1, 5, 1)
    assert quadrants(a, c).tolist() == ["up_down", "up_up", "down_down", "down_up", "still", ""]


def test_displacement_counts_quadrants_and_pairs_won_by_lowering_both() -> None:
    """Golden pair A rises and falls (2, −2); B falls twice (−4, −10) and is won; (−4, −1) falls twice and is lost."""
    found = displacement(values(2, -4, -4, 1, 0), values(-2, -10, -1, 3, 0))
    assert (found.up_down, found.up_up, found.down_down, found.down_up, found.still) == (1, 1, 2, 0, 1)
    assert (found.pairs, found.won_by_lowering_both) == (5, 1)


@pytest.mark.parametrize(("lowered", "warns"), [(3, False), (4, False), (9, False), (10, True)])
def test_displacement_warns_if_more_than_a_quarter_of_the_pairs_are_lowered_beyond_chance(
    lowered: int, *, warns: bool
) -> None:
    """Of 20 pairs, 10 or more are lowered by chance in 1.4% of the cases, 9 or more in 4.1%."""
    a, c = np.repeat([-1.0, 1.0], [lowered, 20 - lowered]), np.repeat([-2.0, 0.0], [lowered, 20 - lowered])
    assert displacement(a, c).conclude().warns == warns


def test_unchanged_policies_are_reported_as_such() -> None:
    assert "No response moved" in displacement(values(0, 0), values(0, 0)).conclude().sentence


# Length


def test_the_slope_and_the_residual_margins_are_those_of_least_squares() -> None:
    """Differences −10, 0, 10, 20 with margins 0, 1, 1, 2: slope 0.06, residuals m − 0.06·d."""
    margins, chosen, rejected = values(0, 1, 1, 2), values(10, 20, 30, 40), values(20, 20, 20, 20)
    found = length_bias(margins, chosen, rejected)
    assert found.slope == pytest.approx(0.06)
    assert residual_margins(margins, chosen, rejected) == pytest.approx(values(0.6, 1.0, 0.4, 0.8))
    assert found.correlation == pytest.approx(np.corrcoef(chosen - rejected, margins)[0, 1])
    assert (found.longer, found.accuracy, found.residual_accuracy) == (0.5, 0.75, 1.0)


def test_length_bins_contain_every_pair_once_and_keep_equal_differences_together() -> None:
    longer = values(-5, 1, 1, 1, 1, 1, 1, 3, 9, 9)
    found = length_bias(values(*range(-3, 7)), longer, values(*[0] * 10))
    assert [(one.low, one.high, one.pairs, one.accuracy) for one in found.bins] == [
        (-5, 1, 7, pytest.approx(3 / 7)),
        (3, 3, 1, 1.0),
        (9, 9, 2, 1.0),
    ]


def test_a_pair_of_unknown_length_is_excluded() -> None:
    assert length_bias(values(1, 2, 3), values(1, math.nan, 3), values(1, 1, 1)).pairs == 2


def test_without_a_difference_in_length_residual_margins_are_the_margins() -> None:
    margins = values(1, -2, 3)
    assert residual_margins(margins, values(5, 5, 5), values(3, 3, 3)).tolist() == [1, -2, 3]


def test_length_bias_warns_from_a_correlation_of_three_tenths() -> None:
    found = length_bias(values(1, 2, 3, 4, 5), values(1, 2, 3, 5, 4), values(0, 0, 0, 0, 0))
    assert (found.correlation_low, found.correlation_high) == pytest.approx((0.0861, 0.9934), abs=1e-4)
    assert found.conclude().warns
    assert "longer" in found.conclude().sentence
    assert not replace(found, correlation=0.29).conclude().warns
    assert not replace(found, correlation_low=-0.01).conclude().warns


# Reference


@pytest.mark.parametrize(("wrong", "warns"), [(5, False), (15, False), (16, True)])
def test_a_policy_that_prefers_the_rejected_responses_looks_exchanged(wrong: int, *, warns: bool) -> None:
    """Of 21 pairs, 16 or more are wrong by chance in 1.3% of the cases, 15 or more in 3.9%."""
    a = np.repeat([-1.0, 1.0], [wrong, 21 - wrong])
    found = reference(a, np.zeros(21), np.full(21, 100.0)).conclude()
    assert found.warns == warns
    assert ("exchanged" in found.sentence) == warns


def test_ties_do_not_look_exchanged() -> None:
    assert not reference(np.zeros(50), np.zeros(50), np.full(50, 10.0)).conclude().warns


def test_chosen_responses_that_gain_as_much_as_by_fine_tuning_question_the_reference() -> None:
    gains = values(*[30.0] * 8, *[10.0] * 2)  # of 100 tokens
    found = reference(gains, gains - 1, np.full(10, 100.0))
    assert (found.shift, found.shifted, found.counted) == (0.3, 8, 10)
    assert not found.conclude().warns  # 8 of 10 by chance in 5.5% of the cases
    found = reference(np.full(10, 30.0), np.full(10, 29.0), values(math.nan, *[100.0] * 9))
    assert (found.shifted, found.counted) == (9, 9)
    assert "supervised fine-tuning" in found.conclude().sentence


def test_a_policy_that_is_known_to_be_the_base_of_the_reference_is_exchanged_whatever_its_accuracy() -> None:
    found = reference(values(1, 1), values(0, 0), values(9, 9), is_exchanged=True).conclude()
    assert (found.warns, "base of the reference" in found.sentence) == (True, True)


# Ranking


def test_policy_reference_and_reward_are_ranked_by_sums_and_by_tokens() -> None:
    """A: p −50 > −60, q −52 > −58, by token (20, 30) p −2.5 < −2, q −2.6 < −1.93; B the same but −2.5 > −2.67."""
    p_w, p_l, q_w, q_l = (values(*both) for both in zip(A, B, strict=True))
    found = ranking(p_w, p_l, q_w, q_l, values(20, 20), values(30, 30))
    assert (found.reward, found.policy, found.ref) == (1.0, 1.0, 1.0)
    assert (found.policy_normalised, found.ref_normalised, found.disagree) == (0.5, 0.5, 0.5)


def test_a_tie_is_not_ranked_right() -> None:
    same = values(-5.0)
    found = ranking(same, same, same, same, values(1), values(1))
    assert (found.reward, found.policy, found.ref) == (0.0, 0.0, 0.0)


def test_ranking_warns_if_the_policy_is_far_behind_its_reward() -> None:
    def found_in(pairs: int) -> Ranking:
        return ranking(*(np.full(pairs, number) for number in (-9.0, -5.0, -12.0, -5.0, 1.0, 1.0)))

    assert (found_in(1).reward, found_in(1).policy) == (1.0, 0.0)
    assert [found_in(pairs).conclude().warns for pairs in (1, 5, 6)] == [False, False, True]  # p 1, 0.06, 0.03


# Calibration


def test_the_calibration_error_weighs_bins_by_their_pairs() -> None:
    """σ(2) = 0.881 twice right and once wrong, σ(0.1) = 0.525 once right: (3·|2/3 − 0.881| + |1 − 0.525|)/4."""
    found = calibration(values(2, 2, -2, 0.1, 0), beta=0.1)
    assert found.error == pytest.approx((3 * (sigma(2) - 2 / 3) + 1 - sigma(0.1)) / 4)
    assert (found.pairs, found.ties, found.accuracy) == (5, 1, 0.75)
    assert [one.pairs for one in found.bins] == [1, 3]


def test_the_best_beta_minimises_the_mean_loss() -> None:
    """Three gaps of 1 and one of −1: σ(β) = 3/4, so β = log 3."""
    assert best_beta(values(1, 1, 1, -1)) == pytest.approx(math.log(3), abs=1e-9)


@pytest.mark.parametrize(
    ("gaps", "expected"),
    [((1, 2, 0), math.inf), ((-1, -2), 0.0), ((1, -1), 0.0), ((1, -3), 0.0), ((0, 0), math.nan), ((), math.nan)],
    ids=["separable", "all wrong", "even", "wrong in the mean", "ties", "none"],
)
def test_the_best_beta_is_defined_for_edge_cases(gaps: tuple[float, ...], expected: float) -> None:
    assert best_beta(values(*gaps)) == pytest.approx(expected, nan_ok=True)


@given(hnp.arrays(np.float64, st.integers(2, 20), elements=st.floats(-1e6, 1e6)))
def test_no_other_beta_fits_better_whatever_the_gaps(gaps: NDArray[np.float64]) -> None:
    found = best_beta(gaps)
    if math.isnan(found) or math.isinf(found):
        return

    def loss(beta: float) -> float:
        return float(np.logaddexp(0, -beta * gaps).mean())

    assert all(loss(found) <= loss(found * factor) * (1 + 1e-9) for factor in (0.5, 0.9, 1.1, 2.0))


def test_margins_that_match_their_accuracy_count_as_calibrated() -> None:
    margin = math.log(3)  # σ = 0.75
    assert not calibration(values(margin, margin, margin, -margin)).conclude().warns


def test_too_small_margins_suggest_a_larger_beta() -> None:
    found = calibration(values(*[0.1] * 19, -0.1), beta=0.1)
    assert found.conclude().warns
    assert "a larger beta" in found.conclude().sentence


def test_too_large_margins_suggest_a_smaller_beta() -> None:
    found = calibration(values(5, 5, 5, -5, 5, -5), beta=0.1)
    assert "a smaller beta" in found.conclude().sentence


def test_labels_that_every_margin_agrees_with_have_no_finite_best_beta() -> None:
    found = calibration(values(0.1, 0.2), beta=0.1)
    assert found.conclude().figure == "ECE 0.463, no finite best beta"


# Gradient weights


def test_the_effective_sample_size_is_that_of_kish() -> None:
    assert gradient_weights(values(1, 2, 3)).effective == pytest.approx(36 / 14)


def test_the_carriers_are_the_fewest_pairs_with_half_of_the_gradient() -> None:
    found = gradient_weights(values(1, -4, 2, 1))
    assert (found.carriers, found.threshold) == (1, 4.0)


def test_equal_weights_are_all_effective() -> None:
    found = gradient_weights(values(*[1e-200] * 4))
    assert found.effective == pytest.approx(4)
    assert found.carriers == 2


def test_a_gradient_from_few_or_no_pairs_causes_a_warning() -> None:
    assert gradient_weights(values(100, *[0.1] * 19)).conclude().warns
    assert gradient_weights(values(0, 0)).conclude().figure == "no gradient"
    assert not gradient_weights(values(1, 1, 1)).conclude().warns


def test_a_gradient_that_is_next_to_nothing_beside_the_first_one_is_saturated() -> None:
    found = gradient_weights(values(1e-4, 2e-4, 1e-4, 2e-4), 0.05)
    assert found.relative == pytest.approx(0.003)
    assert "saturated" in found.conclude().sentence
    assert not gradient_weights(values(1e-4, 2e-4, 1e-4, 2e-3), 0.05).conclude().warns  # up to 4.1%
    assert not gradient_weights(values(1e-4, 2e-4)).conclude().warns


# Tokens


def test_the_shares_of_a_pair_are_those_of_its_tokens() -> None:
    """Prefix "a b" of |Δ| 1 each on both sides, "c" against "x" 4 and −2, end "." 1 and 3: Σ|Δ| 14, h = 7 − 3."""
    found = token_shares(["a", "b", "c", "."], ["a", "b", "x", "."], values(1, 1, 4, 1), values(1, 1, -2, 3))
    assert found is not None
    assert (found.tokens, found.gap, found.parting, found.ending) == (8, 4.0, 6.0, -2.0)
    assert found.before == pytest.approx(4 / 14)
    assert found.top == pytest.approx((4 + 3 + 2 + 1 + 1) / 14)


def test_a_prefix_and_an_ending_never_share_a_token() -> None:
    found = token_shares(["a"], ["a", "a"], values(2), values(2, 1))
    assert found is not None
    assert (found.parting, found.ending) == (-1.0, 0.0)


@pytest.mark.parametrize("chosen", [[], [math.nan]])
def test_a_pair_without_values_has_no_shares(chosen: list[float]) -> None:
    assert token_shares(["a"] * len(chosen), ["b"], values(*chosen), values(1)) is None


def test_margins_made_by_endings_cause_a_warning() -> None:
    ends = token_shares(["a", "b", "."], ["c", "d", "."], values(0.1, 0.1, 3), values(0, 0, 0))
    content = token_shares(["a", "b", "."], ["c", "d", "."], values(0.1, 3, 0), values(0, 0, 0))
    assert ends is not None
    assert content is not None
    assert concentration([ends]).ending == pytest.approx(3 / 3.2)
    assert not concentration([ends]).conclude().warns
    assert concentration([ends] * 3).conclude().warns
    assert not concentration([content] * 3).conclude().warns


def test_a_share_of_a_mean_margin_near_zero_has_no_interval() -> None:
    shares = [TokenShares(tokens=50, top=0.2, before=0.0, gap=gap, parting=0.0, ending=1.0) for gap in (3, -2.9, 0.1)]
    found = concentration(shares)
    assert found.ending == pytest.approx(15)
    assert math.isnan(found.ending_low)
    assert not found.conclude().warns


# Subsets


def test_a_subset_has_wilsons_and_students_intervals() -> None:
    (found,) = subsets(values(1, 2, 3), np.zeros(3, dtype=np.int64), 1)
    assert (found.pairs, found.accuracy, found.margin) == (3, 1.0, 2.0)
    assert (found.accuracy_low, found.accuracy_high) == pytest.approx((0.438503, 1.0), abs=1e-6)
    assert (found.margin_low, found.margin_high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / 3**0.5))


def test_a_mean_of_one_pair_has_no_bound() -> None:
    assert mean_interval(values(5)) == pytest.approx((5, math.nan, math.nan), nan_ok=True)


@pytest.mark.parametrize(("freedom", "point"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (30, 2.04227)])
def test_intervals_of_few_pairs_use_students_t(freedom: int, point: float) -> None:
    margins = np.zeros(freedom + 1)
    margins[0] = 1.0
    mean, _, high = mean_interval(margins)
    assert (high - mean) / (margins.std(ddof=1) / math.sqrt(margins.size)) == pytest.approx(point, rel=2e-3)


def test_only_subsets_beyond_chance_stand_out() -> None:
    margins, groups = values(*[1] * 30, *[-1] * 30, 1, -1), np.repeat([0, 1, 2], [30, 30, 2])
    assert [one.differs for one in subsets(margins, groups, 3)] == [True, True, False]


def test_a_single_wrong_pair_does_not_stand_out() -> None:
    margins, groups = values(*[1] * 20, -1), np.repeat([0, 1], [20, 1])
    assert [one.differs for one in subsets(margins, groups, 2)] == [False, False]


def test_quantile_bins_are_never_empty() -> None:
    assert quantile_edges(values(1, 1, 1, 1, 2, 3, math.nan), 3) == [2.0]
    assert quantile_edges(values(), 5) == []
