"""Properties that hold for any log-probs: symmetries of the losses, and ties if policy equals reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefscope.preference.losses import dpo_loss, ipo_azar_loss, ipo_loss, robust_loss, simpo_loss
from prefscope.preference.registry import LOSSES
from prefscope.preference.rewards import implicit_reward

LOGPS = st.floats(-1000.0, 0.0)
FOUR = st.tuples(LOGPS, LOGPS, LOGPS, LOGPS)
BETAS = st.floats(0.001, 10.0)
Four = tuple[float, float, float, float]


def margin(four: Four, beta: float) -> float:
    """Return the margin of (policy chosen, policy rejected, ref chosen, ref rejected)."""
    return float(implicit_reward(four[0], four[2], beta=beta) - implicit_reward(four[1], four[3], beta=beta))


def swapped(four: Four) -> Four:
    """Return the pair with chosen and rejected exchanged."""
    return four[1], four[0], four[3], four[2]


@given(FOUR, BETAS)
def test_the_dpo_losses_of_opposite_margins_differ_by_the_margin(four: Four, beta: float) -> None:
    difference = dpo_loss(*four, beta=beta) - dpo_loss(*swapped(four), beta=beta)
    assert difference == pytest.approx(-margin(four, beta), rel=1e-12, abs=1e-9)


@given(FOUR, BETAS)
def test_cdpo_with_half_the_labels_flipped_is_symmetric(four: Four, beta: float) -> None:
    losses = [dpo_loss(*pair, beta=beta, label_smoothing=0.5) for pair in (four, swapped(four))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@given(FOUR, BETAS)
def test_robust_dpo_without_flipped_labels_is_dpo(four: Four, beta: float) -> None:
    assert robust_loss(*four, beta=beta, label_smoothing=0.0) == dpo_loss(*four, beta=beta)


@given(FOUR, BETAS)
def test_the_dpo_weight_is_beta_times_the_probability_of_the_other_order(four: Four, beta: float) -> None:
    expected = beta / (1.0 + math.exp(min(margin(four, beta), 700.0)))
    assert LOSSES["dpo"].weight(*four, beta=beta) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(st.lists(st.tuples(LOGPS, LOGPS), min_size=1, max_size=20), BETAS)
def test_the_rewards_of_tokens_add_up_to_the_reward_of_their_response(
    tokens: list[tuple[float, float]], beta: float
) -> None:
    policy, ref = np.array(tokens).T
    whole = implicit_reward(policy.sum(), ref.sum(), beta=beta)
    assert implicit_reward(policy, ref, beta=beta).sum() == pytest.approx(whole, rel=1e-9, abs=1e-9)


@given(LOGPS, LOGPS, BETAS)
def test_policy_equal_to_reference_has_reward_zero_and_loss_log_two(
    chosen: float, rejected: float, beta: float
) -> None:
    assert implicit_reward(chosen, chosen, beta=beta) == 0.0
    assert implicit_reward(rejected, rejected, beta=beta) == 0.0
    assert dpo_loss(chosen, rejected, chosen, rejected, beta=beta) == math.log(2)


@given(FOUR, BETAS)
def test_swapping_chosen_and_rejected_negates_the_margin(four: Four, beta: float) -> None:
    assert margin(swapped(four), beta) == -margin(four, beta)


@given(LOGPS, LOGPS, st.integers(1, 50), st.integers(1, 50), st.integers(2, 9))
def test_simpo_without_gamma_depends_only_on_the_means(
    chosen: float, rejected: float, num_chosen: int, num_rejected: int, factor: int
) -> None:
    once = simpo_loss(chosen, rejected, num_chosen, num_rejected, gamma=0.0)
    longer = simpo_loss(factor * chosen, factor * rejected, factor * num_chosen, factor * num_rejected, gamma=0.0)
    assert longer == pytest.approx(once, rel=1e-9, abs=1e-12)


@given(FOUR, st.floats(0.01, 10.0))
def test_ipo_is_beta_squared_times_the_papers_form_at_half_beta_squared(four: Four, beta: float) -> None:
    papers = ipo_azar_loss(*four, beta=beta**2 / 2)
    assert ipo_loss(*four, beta=beta) == pytest.approx(beta**2 * papers, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.target_gap])
@pytest.mark.parametrize("beta", [0.05, 0.1, 2.0])
def test_an_ipo_loss_is_zero_at_its_target_gap(name: str, beta: float) -> None:
    loss = LOSSES[name]
    assert loss.target_gap is not None
    gap, _ = loss.target_gap({"beta": beta})
    columns = dict.fromkeys(loss.inputs, 0.0) | {"policy_chosen_logps": gap}
    columns |= dict.fromkeys(("chosen_num_tokens", "rejected_num_tokens"), 1.0)
    assert loss.compute(*(columns[name] for name in loss.inputs), beta=beta) == pytest.approx(0.0, abs=1e-18)


def test_a_response_without_scored_tokens_has_no_simpo_loss() -> None:
    with np.errstate(invalid="ignore"):
        assert math.isnan(simpo_loss(np.array(0.0), np.array(-5.0), np.array(0), np.array(3)))


def test_extreme_margins_overflow_nowhere_in_numpy() -> None:
    policy = np.array([1e5, -1e5])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert dpo_loss(policy, 0.0, 0.0, 0.0, beta=0.1).tolist() == [0.0, 1e4]
