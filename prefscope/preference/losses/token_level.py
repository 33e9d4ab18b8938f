"""DPO token by token (TDPO): the divergences of the models along the responses are part of the gap."""

from __future__ import annotations

from prefscope.preference.arrays import Array, sigmoid, softplus_neg
from prefscope.preference.losses.knobs import BETA, GAP
from prefscope.preference.registry import Parameter, register

PAPER = "TDPO 2024, arXiv 2404.11999; its authors' code"
CONVENTION = f"{GAP}, with the sums of KL(reference‖policy) over positions"
ALPHA = Parameter("alpha", 0.0, 2.0, "linear", "weight of the difference of divergences; 0 is DPO")


def _gap(a: Array, c: Array, d_w: Array, d_l: Array, alpha: float) -> Array:
    return a - c - alpha * (d_l - d_w)


def _tdpo2_weight(a: Array, c: Array, d_w: Array, d_l: Array, beta: float, alpha: float) -> Array:
    """Compute β·σ(−β·gap), with the divergences as constants, as the log-probs of other tokens determine them."""
    return beta * sigmoid(-beta * _gap(a, c, d_w, d_l, alpha))


def _tdpo1_weight(a: Array, c: Array, d_w: Array, d_l: Array, beta: float) -> Array:
    return _tdpo2_weight(a, c, d_w, d_l, beta, 1.0)


@register(
    title="token-level DPO, first form (TDPO1)",
    formula="−log σ(β·(a − c − (d_l − d_w)))",
    source=f"{PAPER} with if_tdpo2=False",
    convention=CONVENTION,
    parameters=(BETA,),
    weight=_tdpo1_weight,
)
def tdpo1_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_kl_ref_policy: Array,
    rejected_kl_ref_policy: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the first TDPO loss of each pair, in nats.

    >>> round(tdpo1_loss(-50.0, -60.0, -52.0, -58.0, 1.5, 4.0, beta=0.1), 6)
    0.620957
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return softplus_neg(beta * _gap(a, c, chosen_kl_ref_policy, rejected_kl_ref_policy, 1.0))


@register(
    title="token-level DPO, second form (TDPO2)",
    formula="−log σ(β·(a − c − α·(d_l − d_w)))",
    source=f"{PAPER} with if_tdpo2=True; no gradient flows through d_w",
    convention=CONVENTION,
    parameters=(BETA, ALPHA),
    weight=_tdpo2_weight,
)
def tdpo2_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_kl_ref_policy: Array,
    rejected_kl_ref_policy: Array,
    beta: float = 0.1,
    alpha: float = 0.5,
) -> Array:
    """Compute the second TDPO loss of each pair, in nats.

    >>> round(tdpo2_loss(-50.0, -60.0, -52.0, -58.0, 1.5, 4.0, beta=0.1, alpha=0.5), 6)
    0.565071
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return softplus_neg(beta * _gap(a, c, chosen_kl_ref_policy, rejected_kl_ref_policy, alpha))
