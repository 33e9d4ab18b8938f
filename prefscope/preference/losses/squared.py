"""Losses with a target gap: SPPO, and IPO in three forms, whose target gaps differ widely."""

from __future__ import annotations

from prefscope.preference.arrays import Array
from prefscope.preference.losses.knobs import BETA
from prefscope.preference.registry import register


def _ipo_weight(a: Array, c: Array, beta: float) -> Array:
    return 2.0 * beta * (1.0 / beta - beta * (a - c))


@register(
    title="IPO, reward-margin form",
    formula="(β·h − 1/β)²",
    source="reward-margin form of Azar et al. 2023, arXiv 2310.12036, eq. 17 (= β²·ipo_azar at τ = β²/2)",
    convention="sums; β scales the difference of log-ratios and sets the target",
    parameters=(BETA,),
    weight=_ipo_weight,
    target_gap=lambda parameters: (1.0 / parameters["beta"] ** 2, "nats"),
)
def ipo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the IPO loss of each pair in its reward-margin form, in squared reward units.

    Definition: (m − 1/beta)² with m the margin of the implicit rewards, so the target gap is 1/beta² nats. This is
    neither the paper's form (`ipo_azar_loss`, target 1/(2·beta) nats) nor TRL's (`ipo_trl_loss`, means over tokens).

    References:
        Azar et al. 2023, arXiv 2310.12036: beta² times eq. 17 at tau = beta²/2.

    >>> round(ipo_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    92.16
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return (beta * (a - c) - 1.0 / beta) ** 2


def _ipo_azar_weight(a: Array, c: Array, beta: float) -> Array:
    return 2.0 * (0.5 / beta - (a - c))


@register(
    title="IPO, summed form of the paper",
    formula="(h − 1/(2β))²",
    source="Azar et al. 2023, arXiv 2310.12036, eq. 17, β for τ; as in the original DPO code and OpenRLHF",
    convention="sums; β only sets the target",
    parameters=(BETA,),
    weight=_ipo_azar_weight,
    target_gap=lambda parameters: (0.5 / parameters["beta"], "nats"),
)
def ipo_azar_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the IPO loss of each pair as in the paper, with summed log-ratios, in nats².

    Definition: (h − 1/(2·beta))² with h the difference of the two log-ratios.

    References:
        Azar et al. 2023, arXiv 2310.12036, eq. 17, with beta for tau.

    >>> ipo_azar_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1)
    1.0
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return ((a - c) - 0.5 / beta) ** 2


def _ipo_trl_weight(a: Array, c: Array, n_w: Array, n_l: Array, beta: float) -> Array:
    return 2.0 * (0.5 / beta - (a / n_w - c / n_l)) / n_w


@register(
    title="IPO, per-token form of TRL",
    formula="(a/n_w − c/n_l − 1/(2β))²",
    source="TRL ≥ 0.8 (loss_type ipo), after Azar et al. 2023, arXiv 2310.12036, eq. 17",
    convention="means over tokens; β only sets the target",
    parameters=(BETA,),
    weight=_ipo_trl_weight,
    target_gap=lambda parameters: (0.5 / parameters["beta"], "nats per token"),
)
def ipo_trl_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the IPO loss of each pair as in TRL, with means over tokens, in (nats per token)².

    Definition: (a/n_w − c/n_l − 1/(2·beta))² with a, c the log-ratios and n_w, n_l the scored tokens. TRL also counts
    the first token of a sequence without prompt and BOS, which nothing predicts; it is not scored here.

    References:
        TRL 0.8 and later, `loss_type="ipo"`; Azar et al. 2023, arXiv 2310.12036, eq. 17, has sums.

    >>> round(ipo_trl_loss(-50.0, -60.0, -52.0, -58.0, 20, 30, beta=0.1), 6)
    23.361111
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    n_w, n_l = chosen_num_tokens, rejected_num_tokens
    return (a / n_w - c / n_l - 0.5 / beta) ** 2


def _sppo_hard_weight(a: Array, beta: float) -> Array:
    return 2.0 * (0.5 / beta - a)


@register(
    title="SPPO with hard labels",
    formula="(a − 1/(2β))² + (c + 1/(2β))²",
    source="Wu et al. 2024, arXiv 2405.00675, eq. 4.7 with P = 1 and 0; TRL's sppo_hard",
    convention="sums; β only sets both targets",
    parameters=(BETA,),
    weight=_sppo_hard_weight,
)
def sppo_hard_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the SPPO loss of each pair with hard labels, in nats².

    >>> round(sppo_hard_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    18.0
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return (a - 0.5 / beta) ** 2 + (c + 0.5 / beta) ** 2
