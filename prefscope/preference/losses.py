"""Preference losses: each one a registered function with its formula, source and parameters.

Every function is pure, element-wise and unreduced, and takes plain floats, NumPy arrays or torch tensors. Arguments are
named as in the ledger: `policy_chosen_logps` and the like are sums over scored tokens in nats, `chosen_num_tokens` and
`rejected_num_tokens` count those tokens. Each loss has a gradient weight beside it, −∂loss/∂policy_chosen_logps: how
hard a pair still pulls on its chosen response.

Symbols of the formulas: a and c are the chosen and rejected log-ratios (policy − reference), h = a − c, n the number of
scored tokens, σ the logistic function, ε the label smoothing.
"""

from __future__ import annotations

from prefscope.preference.arrays import Array, elementwise, sigmoid, softplus_neg
from prefscope.preference.registry import Parameter, register

BETA = Parameter("beta", 0.1, 0.001, 10.0, "log", "scale of the log-ratios")
LABEL_SMOOTHING = Parameter("label_smoothing", 0.0, 0.0, 0.5, "linear", "assumed share of flipped labels")
SIMPO_BETA = Parameter("beta", 2.0, 0.01, 20.0, "log", "scale of the mean log-probs")
SIMPO_GAMMA = Parameter("gamma", 0.5, 0.0, 10.0, "linear", "target margin, after beta")


def _gap(
    policy_chosen_logps: Array, policy_rejected_logps: Array, ref_chosen_logps: Array, ref_rejected_logps: Array
) -> Array:
    """Return h, the difference of the two log-ratios, in nats."""
    return (policy_chosen_logps - ref_chosen_logps) - (policy_rejected_logps - ref_rejected_logps)


@elementwise
def dpo_weight(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Array:
    """Return β·(σ(−βh) − ε), the gradient weight of `dpo_loss` (Rafailov et al. 2023, section 4, for ε = 0)."""
    margins = beta * _gap(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return beta * (sigmoid(-margins) - label_smoothing)


@register(
    title="DPO",
    formula="−(1−ε)·log σ(β·h) − ε·log σ(−β·h)",
    source="Rafailov et al. 2023, arXiv 2305.18290, eq. 7; ε: Mitchell 2023 (conservative DPO)",
    parameters=(BETA, LABEL_SMOOTHING),
    weight=dpo_weight,
)
@elementwise
def dpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Array:
    """Return the DPO loss of each pair, in nats.

    Definition: −(1−ε)·log σ(m) − ε·log σ(−m) with
    m = beta·((policy_chosen − ref_chosen) − (policy_rejected − ref_rejected)).
    TRL from 0.29 on ignores label smoothing for its `sigmoid` loss; with ε = 0 the two are equal.

    References:
        Rafailov et al. 2023, arXiv 2305.18290, eq. 7.

    >>> round(dpo_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.513015
    """
    margins = beta * _gap(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return (1.0 - label_smoothing) * softplus_neg(margins) + label_smoothing * softplus_neg(-margins)


@elementwise
def ipo_weight(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Return 2β·(1/β − βh), the gradient weight of `ipo_loss`; negative past the target."""
    margins = beta * _gap(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return 2.0 * beta * (1.0 / beta - margins)


@register(
    title="IPO, reward-margin form",
    formula="(β·h − 1/β)²",
    source="reward-margin form of Azar et al. 2023, arXiv 2310.12036, eq. 17 (= β²·ipo_azar at τ = β²/2)",
    parameters=(BETA,),
    weight=ipo_weight,
    target_gap=lambda parameters: (1.0 / parameters["beta"] ** 2, "nats"),
)
@elementwise
def ipo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Return the IPO loss of each pair in its reward-margin form, in squared reward units.

    Definition: (m − 1/beta)² with m the margin of the implicit rewards, so the target gap is 1/beta² nats. This is not
    the paper's form (`ipo_azar_loss`, target 1/(2·beta) nats) nor TRL's (`ipo_trl_loss`, means over tokens).

    References:
        Azar et al. 2023, arXiv 2310.12036, eq. 17, of which it is beta² times the value at tau = beta²/2.

    >>> round(ipo_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    92.16
    """
    margins = beta * _gap(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return (margins - 1.0 / beta) ** 2


@elementwise
def ipo_azar_weight(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Return 2·(1/(2β) − h), the gradient weight of `ipo_azar_loss`; negative past the target."""
    gap = _gap(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return 2.0 * (0.5 / beta - gap)


@register(
    title="IPO, summed form of the paper",
    formula="(h − 1/(2β))²",
    source="Azar et al. 2023, arXiv 2310.12036, eq. 17, β for τ; as in the original DPO code and OpenRLHF",
    parameters=(BETA,),
    weight=ipo_azar_weight,
    target_gap=lambda parameters: (0.5 / parameters["beta"], "nats"),
)
@elementwise
def ipo_azar_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Return the IPO loss of each pair as the paper has it, on summed log-ratios, in nats².

    Definition: (h − 1/(2·beta))² with h the difference of the two log-ratios.

    References:
        Azar et al. 2023, arXiv 2310.12036, eq. 17, with beta for tau.

    >>> ipo_azar_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1)
    1.0
    """
    gap = _gap(policy_chosen_logps, policy_rejected_logps, ref_chosen_logps, ref_rejected_logps)
    return (gap - 0.5 / beta) ** 2


@elementwise
def ipo_trl_weight(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 0.1,
) -> Array:
    """Return (2/n_w)·(1/(2β) − h̄), the gradient weight of `ipo_trl_loss`; negative past the target."""
    chosen = (policy_chosen_logps - ref_chosen_logps) / chosen_num_tokens
    rejected = (policy_rejected_logps - ref_rejected_logps) / rejected_num_tokens
    return 2.0 * (0.5 / beta - (chosen - rejected)) / chosen_num_tokens


@register(
    title="IPO, per-token form of TRL",
    formula="(a/n_w − c/n_l − 1/(2β))²",
    source="TRL ≥ 0.8 (loss_type ipo), after Azar et al. 2023, arXiv 2310.12036, eq. 17",
    parameters=(BETA,),
    weight=ipo_trl_weight,
    target_gap=lambda parameters: (0.5 / parameters["beta"], "nats per token"),
)
@elementwise
def ipo_trl_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 0.1,
) -> Array:
    """Return the IPO loss of each pair as TRL has it, on per-token means, in (nats per token)².

    Definition: (a/n_w − c/n_l − 1/(2·beta))² with a, c the log-ratios and n_w, n_l the scored tokens. TRL also counts a
    completion token that nothing predicts, the first of a sequence without prompt and BOS; it is not scored here.

    References:
        TRL 0.8 and later, `loss_type="ipo"`; Azar et al. 2023, arXiv 2310.12036, eq. 17, has sums.

    >>> round(ipo_trl_loss(-50.0, -60.0, -52.0, -58.0, 20, 30, beta=0.1), 6)
    23.361111
    """
    chosen = (policy_chosen_logps - ref_chosen_logps) / chosen_num_tokens
    rejected = (policy_rejected_logps - ref_rejected_logps) / rejected_num_tokens
    return (chosen - rejected - 0.5 / beta) ** 2


@elementwise
def simpo_weight(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 2.0,
    gamma: float = 0.5,
) -> Array:
    """Return (β/n_w)·σ(−z), the gradient weight of `simpo_loss`, with z the argument of its log σ."""
    chosen = policy_chosen_logps / chosen_num_tokens
    rejected = policy_rejected_logps / rejected_num_tokens
    return beta / chosen_num_tokens * sigmoid(-(beta * (chosen - rejected) - gamma))


@register(
    title="SimPO",
    formula="−log σ(β·log π(y_w)/n_w − β·log π(y_l)/n_l − γ)",
    source="Meng, Xia and Chen 2024, arXiv 2405.14734, eq. 6; γ is TRL's simpo_gamma, SimPO's gamma_beta_ratio is γ/β",
    parameters=(SIMPO_BETA, SIMPO_GAMMA),
    weight=simpo_weight,
)
@elementwise
def simpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 2.0,
    gamma: float = 0.5,
) -> Array:
    """Return the SimPO loss of each pair, in nats; it needs no reference.

    Definition: −log σ(beta·p_w/n_w − beta·p_l/n_l − gamma) with p the summed policy log-probs and n the scored tokens.
    A response without scored tokens gives nan.

    References:
        Meng, Xia and Chen 2024, arXiv 2405.14734, eq. 6.

    >>> round(simpo_loss(-50.0, -60.0, 20, 30, beta=2.0, gamma=0.5), 6)
    1.701413
    """
    chosen = policy_chosen_logps / chosen_num_tokens
    rejected = policy_rejected_logps / rejected_num_tokens
    return softplus_neg(beta * (chosen - rejected) - gamma)
