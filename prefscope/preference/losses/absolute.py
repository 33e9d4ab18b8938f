"""Losses with a separate term for each response, so that a pair cannot be won by lowering both."""

from __future__ import annotations

from prefscope.preference.arrays import Array, sigmoid, softplus_neg
from prefscope.preference.losses.knobs import BETA, EACH
from prefscope.preference.registry import register


def _slope(x: Array) -> Array:
    """Return σ'(x)."""
    return sigmoid(x) * sigmoid(-x)


def _nca_pair_weight(a: Array, beta: float) -> Array:
    return beta * (sigmoid(-beta * a) - 0.5 * sigmoid(beta * a))


@register(
    title="NCA on pairs",
    formula="−log σ(β·a) − ½·log σ(−β·a) − ½·log σ(−β·c)",
    source="Chen et al. 2024, arXiv 2402.05369, for two responses; TRL's nca_pair",
    convention=EACH,
    parameters=(BETA,),
    weight=_nca_pair_weight,
)
def nca_pair_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the noise contrastive alignment (NCA) loss of each pair, in nats.

    >>> round(nca_pair_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    1.296278
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return softplus_neg(beta * a) + 0.5 * softplus_neg(-beta * a) + 0.5 * softplus_neg(-beta * c)


def _bco_pair_weight(a: Array, beta: float) -> Array:
    return beta * sigmoid(-beta * a)


@register(
    title="BCO on pairs, without its baseline",
    formula="−log σ(β·a) − log σ(−β·c)",
    source="Jung et al. 2024, arXiv 2404.04656, with δ = 0; TRL's bco_pair since 0.29 (before: `bco`)",
    convention=EACH,
    parameters=(BETA,),
    weight=_bco_pair_weight,
)
def bco_pair_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the binary classifier optimisation (BCO) loss of each pair without its baseline, in nats.

    >>> round(bco_pair_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    1.196278
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return softplus_neg(beta * a) + softplus_neg(-beta * c)


def _apo_zero_weight(a: Array, beta: float) -> Array:
    return beta * _slope(beta * a)


@register(
    title="APO-zero",
    formula="1 − σ(β·a) + σ(β·c)",
    source="D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 7; TRL's apo_zero",
    convention=EACH,
    parameters=(BETA,),
    weight=_apo_zero_weight,
)
def apo_zero_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the APO-zero loss of each pair, from 0 to 2; for chosen responses that are better than the model's own.

    >>> round(apo_zero_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.900332
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return sigmoid(-beta * a) + sigmoid(beta * c)


def _apo_down_weight(a: Array, c: Array, beta: float) -> Array:
    return beta * (_slope(beta * (a - c)) - _slope(beta * a))


@register(
    title="APO-down",
    formula="σ(β·a) + 1 − σ(β·h)",
    source="D'Oosterlinck et al. 2024, arXiv 2408.06266, eq. 8; TRL's apo_down",
    convention=EACH,
    parameters=(BETA,),
    weight=_apo_down_weight,
)
def apo_down_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the APO-down loss of each pair, from 0 to 2; for chosen responses that are worse than the model's own.

    >>> round(apo_down_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.951146
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return sigmoid(beta * a) + sigmoid(-beta * (a - c))
