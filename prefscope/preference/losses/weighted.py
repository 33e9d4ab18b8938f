"""Losses with weights on the tokens of the longer response's tail, or on how on-policy the responses are."""

from __future__ import annotations

from array_api_compat import array_namespace

from prefscope.preference.arrays import Array, constant, sigmoid, softplus_neg
from prefscope.preference.losses.knobs import BETA, GAP
from prefscope.preference.registry import Parameter, register

TAIL = Parameter("alpha", 0.0, 1.0, "linear", "weight of the tokens beyond the shorter response; 1 is DPO")


def _ld_gap(a: Array, c: Array, u: Array, v: Array, alpha: float) -> Array:
    return (a - (1.0 - alpha) * u) - (c - (1.0 - alpha) * v)


def _ld_dpo_weight(a: Array, c: Array, u: Array, v: Array, beta: float, alpha: float) -> Array:
    """Compute β·σ(−βh'), the weight of tokens within the shorter length; that of tail tokens is α times as large."""
    return beta * sigmoid(-beta * _ld_gap(a, c, u, v, alpha))


@register(
    title="length-desensitised DPO (LD-DPO)",
    formula="−log σ(β·((a − (1−α)·u) − (c − (1−α)·v)))",
    source="LD-DPO 2024, arXiv 2409.06411; TRL's sigmoid with ld_alpha from 0.29 on, for policy and reference",
    convention=f"{GAP}; tokens beyond the shorter response count α times",
    parameters=(BETA, TAIL),
    weight=_ld_dpo_weight,
)
def ld_dpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    policy_chosen_tail_logps: Array,
    policy_rejected_tail_logps: Array,
    ref_chosen_tail_logps: Array,
    ref_rejected_tail_logps: Array,
    beta: float = 0.1,
    alpha: float = 0.5,
) -> Array:
    """Compute the DPO loss of each pair with a reduced weight on the longer response's tail, in nats.

    Definition: DPO with Σ_{t ≤ n} + α·Σ_{t > n} instead of Σ_t, n = min(n_w, n_l), for policy and reference.
    TRL before 0.29 only did this for the policy, and counted the prompt's tokens; this is not reproduced.

    >>> round(ld_dpo_loss(-50.0, -60.0, -52.0, -58.0, 0.0, -20.0, 0.0, -18.0, beta=0.1, alpha=1.0), 6)
    0.513015
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    u, v = policy_chosen_tail_logps - ref_chosen_tail_logps, policy_rejected_tail_logps - ref_rejected_tail_logps
    return softplus_neg(beta * _ld_gap(a, c, u, v, alpha))


def _on_policy(p_w: Array, p_l: Array, k_w: Array, k_l: Array, n_w: Array, n_l: Array) -> Array:
    """Compute w(y_w)·w(y_l) with w(y) = exp((log π(y) − k)/n), as a constant."""
    xp = array_namespace(p_w)
    return constant(xp.exp((p_w - k_w) / n_w + (p_l - k_l) / n_l))


def _wpo_weight(
    a: Array,
    c: Array,
    p_w: Array,
    p_l: Array,
    k_w: Array,
    k_l: Array,
    n_w: Array,
    n_l: Array,
    beta: float,
) -> Array:
    """Compute w·β·σ(−βh); w is a constant."""
    return _on_policy(p_w, p_l, k_w, k_l, n_w, n_l) * beta * sigmoid(-beta * (a - c))


@register(
    title="weighted preference optimisation (WPO)",
    formula="w(y_w)·w(y_l)·(−log σ(β·h)), w(y) = exp((p − k)/n)",
    source="Zhou et al. 2024, arXiv 2406.11827; TRL's sigmoid with use_weighting",
    convention=f"{GAP}; w is a mean over tokens, without a clamp and without a gradient",
    parameters=(BETA,),
    weight=_wpo_weight,
)
def wpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    policy_chosen_collision_logps: Array,
    policy_rejected_collision_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the DPO loss of each pair, weighted by how likely the policy is to generate both responses, in nats.

    Definition: w(y) = exp((1/n)·Σ_t (log π(y_t) − log Σ_v π(v)²)), which is 1 if each token is as likely as the average
    token sampled from the policy. TRL up to 0.28 and open-instruct clamp the product at 1.

    References:
        Zhou et al. 2024, arXiv 2406.11827, eq. 2.
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    p_w, p_l = policy_chosen_logps, policy_rejected_logps
    n_w, n_l = chosen_num_tokens, rejected_num_tokens
    k_w, k_l = policy_chosen_collision_logps, policy_rejected_collision_logps
    return _on_policy(p_w, p_l, k_w, k_l, n_w, n_l) * softplus_neg(beta * (a - c))
