"""Losses that need no reference: they compare the policy's log-probs of the two responses."""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from prefscope.preference.arrays import Array, sigmoid, softplus_neg
from prefscope.preference.losses.knobs import MEANS
from prefscope.preference.registry import Parameter, Spelling, register

SIMPO_BETA = Parameter("beta", 0.01, 20.0, "log", "scale of the mean log-probs")
SIMPO_GAMMA = Parameter("gamma", 0.0, 10.0, "linear", "target margin, after beta")
ALPHA = Parameter("alpha", -1.0, 1.0, "linear", "shape of the reward; 0 is SimPO")
RATIO: dict[str, Spelling] = {"gamma_beta_ratio": lambda parameters, value: ("gamma", value * parameters["beta"])}
"""SimPO's own code is parametrised by γ/β."""


def _simpo_weight(p_w: Array, p_l: Array, n_w: Array, n_l: Array, beta: float, gamma: float) -> Array:
    return beta / n_w * sigmoid(-(beta * (p_w / n_w - p_l / n_l) - gamma))


@register(
    title="SimPO",
    formula="−log σ(β·p_w/n_w − β·p_l/n_l − γ)",
    source="Meng, Xia and Chen 2024, arXiv 2405.14734, eq. 6; γ is TRL's simpo_gamma, SimPO's gamma_beta_ratio is γ/β",
    convention=MEANS,
    parameters=(SIMPO_BETA, SIMPO_GAMMA),
    weight=_simpo_weight,
    spellings=RATIO,
)
def simpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 2.0,
    gamma: float = 0.5,
) -> Array:
    """Compute the SimPO loss of each pair, in nats.

    Definition: −log σ(beta·p_w/n_w − beta·p_l/n_l − gamma) with p the summed policy log-probs and n the scored tokens.
    A response without scored tokens gives nan.

    References:
        Meng, Xia and Chen 2024, arXiv 2405.14734, eq. 6.

    >>> round(simpo_loss(-50.0, -60.0, 20, 30, beta=2.0, gamma=0.5), 6)
    1.701413
    """
    p_w, p_l = policy_chosen_logps, policy_rejected_logps
    n_w, n_l = chosen_num_tokens, rejected_num_tokens
    return softplus_neg(beta * (p_w / n_w - p_l / n_l) - gamma)


def _shaped(mean: Array, alpha: float) -> Array:
    """Compute (1 − e^(−α·p̄))/α, which tends to p̄ for α → 0."""
    xp = array_namespace(mean)
    return mean if abs(alpha) < 1e-9 else -xp.expm1(-alpha * mean) / alpha  # noqa: PLR2004 (nearly 0)


def _alphapo_weight(p_w: Array, p_l: Array, n_w: Array, n_l: Array, beta: float, gamma: float, alpha: float) -> Array:
    xp = array_namespace(p_w)
    chosen, rejected = p_w / n_w, p_l / n_l
    margin = beta * (_shaped(chosen, alpha) - _shaped(rejected, alpha)) - gamma
    return beta / n_w * xp.exp(-alpha * chosen) * sigmoid(-margin)


@register(
    title="AlphaPO",
    formula="−log σ(β·r_w − β·r_l − γ) with r = (1 − e^(−α·p/n))/α",
    source="Gupta et al. 2025, arXiv 2501.03884; TRL's CPO trainer with simpo and alpha",
    convention="means over tokens, shaped by α; β scales their difference",
    parameters=(SIMPO_BETA, SIMPO_GAMMA, ALPHA),
    weight=_alphapo_weight,
    spellings=RATIO,
)
def alphapo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 2.0,
    gamma: float = 0.5,
    alpha: float = 0.25,
) -> Array:
    """Compute the AlphaPO loss of each pair, in nats; with alpha = 0, it equals SimPO.

    >>> round(alphapo_loss(-50.0, -60.0, 20, 30, beta=2.0, gamma=0.5, alpha=0.0), 6)
    1.701413
    """
    p_w, p_l = policy_chosen_logps, policy_rejected_logps
    n_w, n_l = chosen_num_tokens, rejected_num_tokens
    return softplus_neg(beta * (_shaped(p_w / n_w, alpha) - _shaped(p_l / n_l, alpha)) - gamma)


DELTA = Parameter("delta", 0.0, 100.0, "linear", "target difference of log-probs, in nats")


REGULARISER = Parameter("regulariser", 0.0, 10.0, "linear", "λ, share of the chosen response's negative log-prob")


def _slic_weight(p_w: Array, p_l: Array, delta: float, regulariser: float) -> Array:
    xp = array_namespace(p_w)
    return xp.where(p_w - p_l < delta, xp.ones_like(p_w), xp.zeros_like(p_w)) + regulariser


@register(
    title="SLiC",
    formula="max(0, δ − p_w + p_l) − λ·p_w",
    source="Zhao et al. 2023, arXiv 2305.10425, with the chosen response as target, as in HALOs",
    convention="sums, not scaled",
    parameters=(DELTA, REGULARISER),
    weight=_slic_weight,
)
def slic_loss(
    policy_chosen_logps: Array, policy_rejected_logps: Array, delta: float = 1.0, regulariser: float = 0.1
) -> Array:
    """Compute the rank calibration loss (SLiC) of each pair plus its regulariser, in nats.

    With a regulariser of 0, it is the calibration loss only.

    >>> slic_loss(-60.0, -50.0, delta=1.0, regulariser=0.1)
    17.0
    """
    p_w, p_l = policy_chosen_logps, policy_rejected_logps
    xp = array_namespace(p_w)
    return xp.clip(delta - p_w + p_l, 0.0, math.inf) - regulariser * p_w
