"""Losses of the margin β·h: the logistic loss of DPO and related ones."""

from __future__ import annotations

import math

from array_api_compat import array_namespace

from prefscope.preference.arrays import Array, sigmoid, softplus_neg
from prefscope.preference.losses.knobs import BETA, GAP, LABEL_SMOOTHING, MEANS
from prefscope.preference.registry import Parameter, register


def _dpo_weight(a: Array, c: Array, beta: float, label_smoothing: float) -> Array:
    """Compute β·(σ(−βh) − ε) (Rafailov et al. 2023, section 4, for ε = 0)."""
    return beta * (sigmoid(-beta * (a - c)) - label_smoothing)


@register(
    title="DPO",
    formula="−(1−ε)·log σ(β·h) − ε·log σ(−β·h)",
    source="Rafailov et al. 2023, arXiv 2305.18290, eq. 7; ε: Mitchell 2023 (conservative DPO)",
    convention=GAP,
    parameters=(BETA, LABEL_SMOOTHING),
    weight=_dpo_weight,
)
def dpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Array:
    """Compute the DPO loss of each pair, in nats.

    Definition: −(1−ε)·log σ(m) − ε·log σ(−m) with
    m = beta·((policy_chosen − ref_chosen) − (policy_rejected − ref_rejected)).
    TRL 0.29 and later ignores label smoothing for its `sigmoid` loss; with ε = 0, both are equal.

    References:
        Rafailov et al. 2023, arXiv 2305.18290, eq. 7.

    >>> round(dpo_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.513015
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    margins = beta * (a - c)
    return (1.0 - label_smoothing) * softplus_neg(margins) + label_smoothing * softplus_neg(-margins)


def _robust_weight(a: Array, c: Array, beta: float, label_smoothing: float) -> Array:
    margins = beta * (a - c)
    mixed = (1.0 - label_smoothing) * sigmoid(-margins) + label_smoothing * sigmoid(margins)
    return beta * mixed / (1.0 - 2.0 * label_smoothing)


@register(
    title="robust DPO (rDPO)",
    formula="(−(1−ε)·log σ(β·h) + ε·log σ(−β·h))/(1−2ε)",
    source="Chowdhury, Kini and Natarajan 2024, arXiv 2403.00409; TRL's robust",
    convention=GAP,
    parameters=(BETA, Parameter("label_smoothing", 0.0, 0.49, "linear", "assumed share of flipped labels")),
    weight=_robust_weight,
)
def robust_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.1,
) -> Array:
    """Compute the robust DPO loss of each pair, in nats: unbiased if a share ε of labels is flipped; can be negative.

    TRL's default is ε = 0, which makes it equal to DPO.

    >>> round(robust_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1, label_smoothing=0.1), 6)
    0.463015
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    margins = beta * (a - c)
    kept = (1.0 - label_smoothing) * softplus_neg(margins) - label_smoothing * softplus_neg(-margins)
    return kept / (1.0 - 2.0 * label_smoothing)


def _hinge_weight(a: Array, c: Array, beta: float) -> Array:
    xp = array_namespace(a)
    margins = beta * (a - c)
    return xp.where(margins < 1.0, xp.full_like(margins, beta), xp.zeros_like(margins))


@register(
    title="hinge on the margin (RSO)",
    formula="max(0, 1 − β·h)",
    source="Liu et al. 2023, arXiv 2309.06657; TRL's hinge",
    convention=f"{GAP}; the target margin is 1/β nats",
    parameters=(BETA,),
    weight=_hinge_weight,
)
def hinge_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the hinge loss of each pair's margin.

    >>> round(hinge_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.6
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    xp = array_namespace(a)
    return xp.clip(1.0 - beta * (a - c), 0.0, math.inf)


def _exo_pair_weight(a: Array, c: Array, beta: float, label_smoothing: float) -> Array:
    margins = beta * (a - c)
    target = math.log1p(-label_smoothing) - math.log(label_smoothing)
    return beta * sigmoid(margins) * sigmoid(-margins) * (target - margins)


@register(
    title="EXO on pairs",
    formula="σ(β·h)·(log σ(β·h) − log(1−ε)) + σ(−β·h)·(log σ(−β·h) − log ε)",
    source="Ji et al. 2024, arXiv 2402.00856, eq. 16; TRL's exo_pair",
    convention=GAP,
    parameters=(BETA, Parameter("label_smoothing", 1e-6, 0.5, "log", "share of flipped labels, above 0")),
    weight=_exo_pair_weight,
)
def exo_pair_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.001,
) -> Array:
    """Compute the EXO loss of each pair, the reverse KL from the labels to the policy's preference, in nats.

    >>> round(exo_pair_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1, label_smoothing=1e-3), 6)
    2.099226
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    margins = beta * (a - c)
    chosen = sigmoid(margins) * (-softplus_neg(margins) - math.log1p(-label_smoothing))
    return chosen + sigmoid(-margins) * (-softplus_neg(-margins) - math.log(label_smoothing))


def _discopop_weight(a: Array, c: Array, beta: float, tau: float) -> Array:
    margins = beta * (a - c)
    mixing, rest = sigmoid(margins / tau), sigmoid(-margins / tau)
    xp = array_namespace(margins)
    mixed = xp.exp(-margins - softplus_neg(margins / tau))
    slope = rest / tau * (mixed - mixing * softplus_neg(margins))
    return beta * (sigmoid(-margins) * rest + mixed - slope)


@register(
    title="DiscoPOP",
    formula="−(1−g)·log σ(β·h) + g·e^(−β·h) with g = σ(β·h/τ)",
    source="Lu et al. 2024, arXiv 2406.08414, eq. 5; TRL's discopop, whose discopop_tau is τ",
    convention=GAP,
    parameters=(BETA, Parameter("tau", 0.01, 1.0, "log", "how sharply the two losses are mixed")),
    weight=_discopop_weight,
)
def discopop_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    tau: float = 0.05,
) -> Array:
    """Compute the DiscoPOP loss of each pair; unlike TRL's, it does not overflow for very negative margins.

    >>> round(discopop_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1, tau=0.05), 6)
    0.670267
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    margins = beta * (a - c)
    xp = array_namespace(margins)
    exponential = xp.exp(-margins - softplus_neg(margins / tau))  # σ(m/τ)·e^(−m)
    return softplus_neg(margins) * sigmoid(-margins / tau) + exponential


def _sigmoid_norm_weight(a: Array, c: Array, n_w: Array, n_l: Array, beta: float) -> Array:
    return beta / n_w * sigmoid(-beta * (a / n_w - c / n_l))


@register(
    title="DPO on means over tokens",
    formula="−log σ(β·(a/n_w − c/n_l))",
    source="Tülu 3, Lambert et al. 2024, arXiv 2411.15124 (dpo_norm, with β = 5); TRL's sigmoid_norm",
    convention=MEANS,
    parameters=(BETA,),
    weight=_sigmoid_norm_weight,
)
def sigmoid_norm_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the length-normalised DPO loss of each pair, in nats.

    >>> round(sigmoid_norm_loss(-50.0, -60.0, -52.0, -58.0, 20, 30, beta=0.1), 6)
    0.684849
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    n_w, n_l = chosen_num_tokens, rejected_num_tokens
    return softplus_neg(beta * (a / n_w - c / n_l))


DPOP_LAMBDA = Parameter("lambda_", 0.0, 500.0, "linear", "penalty on a chosen response below the reference")


def _dpop_weight(a: Array, c: Array, beta: float, lambda_: float) -> Array:
    xp = array_namespace(a)
    short = xp.clip(-a, 0.0, math.inf)
    slope = xp.where(a < 0.0, xp.full_like(a, 1.0 + lambda_), xp.ones_like(a))
    return beta * slope * sigmoid(-beta * (a - c - lambda_ * short))


@register(
    title="DPO-Positive (DPOP)",
    formula="−log σ(β·(h − λ·max(0, −a)))",
    source="Pal et al. 2024, arXiv 2402.13228 (Smaug)",
    convention=GAP,
    parameters=(BETA, DPOP_LAMBDA),
    weight=_dpop_weight,
    spellings={"lambda": lambda _, value: ("lambda_", value)},  # a Python keyword
)
def dpop_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    lambda_: float = 50.0,
) -> Array:
    """Compute the DPOP loss of each pair, in nats.

    >>> round(dpop_loss(-50.0, -80.0, -46.0, -70.0, beta=0.1, lambda_=50.0), 6)
    19.4
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    xp = array_namespace(a)
    return softplus_neg(beta * (a - c - lambda_ * xp.clip(-a, 0.0, math.inf)))


LENGTH_ALPHA = Parameter("alpha", 0.0, 1.0, "linear", "weight of each token of difference in length")


def _rdpo_weight(a: Array, c: Array, n_w: Array, n_l: Array, beta: float, alpha: float) -> Array:
    return beta * sigmoid(-(beta * (a - c) + alpha * (n_w - n_l)))


@register(
    title="length-regularised DPO (R-DPO)",
    formula="−log σ(β·h + α·(n_w − n_l))",
    source="Park et al. 2024, arXiv 2403.19159",
    convention=GAP,
    parameters=(BETA, LENGTH_ALPHA),
    weight=_rdpo_weight,
)
def rdpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 0.1,
    alpha: float = 0.05,
) -> Array:
    """Compute the R-DPO loss of each pair, in nats.

    >>> round(rdpo_loss(-50.0, -60.0, -52.0, -58.0, 20, 30, beta=0.1, alpha=0.05), 6)
    0.744397
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    n_w, n_l = chosen_num_tokens, rejected_num_tokens
    return softplus_neg(beta * (a - c) + alpha * (n_w - n_l))
