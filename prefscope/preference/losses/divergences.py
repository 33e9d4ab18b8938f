"""DPO with other divergences than the reverse KL: log-ratios are replaced by f' of the probability ratio.

TRL also combines them with other losses; here they are combined with the logistic loss, as in the paper.
"""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from prefscope.preference.arrays import Array, sigmoid, softplus_neg
from prefscope.preference.losses.knobs import BETA
from prefscope.preference.registry import Parameter, register

PAPER = "Wang et al. 2023, arXiv 2309.16240"
SCORES = "sums; β scales the difference of scores"
DIVERGENCE = Parameter("alpha", 0.0, 2.0, "linear", "which divergence; 1 is the reverse KL of DPO")
NEARLY_ONE = 1e-6


def _forward_kl_weight(a: Array, c: Array, beta: float) -> Array:
    xp = array_namespace(a)
    return beta * xp.exp(-a) * sigmoid(-beta * (xp.exp(-c) - xp.exp(-a)))


@register(
    title="DPO under the forward KL",
    formula="−log σ(β·(e^(−c) − e^(−a)))",
    source=f"{PAPER}; TRL's sigmoid with f_divergence_type forward_kl",
    convention=SCORES,
    parameters=(BETA,),
    weight=_forward_kl_weight,
)
def dpo_forward_kl_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the f-DPO loss of each pair with the forward KL, in nats; its scores grow like e^(−log-ratio).

    >>> round(dpo_forward_kl_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.394838
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    xp = array_namespace(a)
    return softplus_neg(beta * (xp.exp(-c) - xp.exp(-a)))


def _js_weight(a: Array, c: Array, beta: float) -> Array:
    return beta * sigmoid(-a) * sigmoid(-beta * (softplus_neg(c) - softplus_neg(a)))


@register(
    title="DPO under the Jensen-Shannon divergence",
    formula="−log σ(β·(log σ(a) − log σ(c)))",
    source=f"{PAPER}; TRL's sigmoid with f_divergence_type js_divergence",
    convention=SCORES,
    parameters=(BETA,),
    weight=_js_weight,
)
def dpo_js_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the f-DPO loss of each pair with the Jensen-Shannon divergence, in nats.

    >>> round(dpo_js_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.598139
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return softplus_neg(beta * (softplus_neg(c) - softplus_neg(a)))


def _score(ratio: Array, alpha: float) -> Array:
    """Compute (t^(α−1) − 1)/(α − 1) for t = e^ratio, which tends to the log-ratio for α → 1."""
    xp = array_namespace(ratio)
    return ratio if math.isclose(alpha, 1.0, abs_tol=NEARLY_ONE) else xp.expm1((alpha - 1.0) * ratio) / (alpha - 1.0)


def _alpha_weight(a: Array, c: Array, beta: float, alpha: float) -> Array:
    xp = array_namespace(a)
    slope = xp.exp((alpha - 1.0) * a) if not math.isclose(alpha, 1.0, abs_tol=NEARLY_ONE) else xp.ones_like(a)
    return beta * slope * sigmoid(-beta * (_score(a, alpha) - _score(c, alpha)))


@register(
    title="DPO under an α-divergence",
    formula="−log σ(β·(s(a) − s(c))) with s(x) = (e^((α−1)·x) − 1)/(α−1)",
    source=f"{PAPER}; TRL's sigmoid with f_divergence_type alpha_divergence (from 0.29 on, α is 1 − the previous α)",
    convention=SCORES,
    parameters=(BETA, DIVERGENCE),
    weight=_alpha_weight,
)
def dpo_alpha_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    alpha: float = 0.5,
) -> Array:
    """Compute the f-DPO loss of each pair with an α-divergence, in nats.

    TRL clamps the exponents at 80, which normal pairs do not reach.

    >>> round(dpo_alpha_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1, alpha=1.0), 6)  # DPO
    0.513015
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return softplus_neg(beta * (_score(a, alpha) - _score(c, alpha)))
