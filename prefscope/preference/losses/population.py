"""Losses with a term that is computed over all pairs passed at once, instead of over a trainer's batch.

A pair's value thus depends on the other pairs. Pairs with non-finite log-probs are excluded; population terms are
constants for the gradient, as in trainers.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from prefscope.preference.arrays import Array, constant, sigmoid, softplus_neg
from prefscope.preference.losses.knobs import BETA, EACH, GAP, LABEL_SMOOTHING
from prefscope.preference.registry import Parameter, register

NLL_ALPHA = Parameter("alpha", 0.0, 10.0, "linear", "share of the chosen response's negative log-likelihood")
ODDS_BETA = Parameter("beta", 0.001, 10.0, "log", "share of the odds ratio (λ in the paper)")
MEAN_LENGTH = "the mean length of chosen responses"


def _mean(x: Array, *others: Array) -> Array:
    """Return the mean over positions where all arguments are finite, as a constant; nan if there are none."""
    xp = array_namespace(x)
    x = constant(x)
    finite = xp.isfinite(x)
    for other in others:
        finite = finite & xp.isfinite(constant(other))
    return xp.sum(xp.where(finite, x, xp.zeros_like(x))) / xp.sum(xp.astype(finite, x.dtype))


def _transported(x: Array, y: Array) -> Array:
    """Return x minus the y of the same rank; nan for pairs where x or y is not finite. Shape (pairs,)."""
    xp = array_namespace(x)
    shape = x.shape
    x, y = xp.reshape(x, (-1,)), xp.reshape(y, (-1,))
    finite = xp.isfinite(x) & xp.isfinite(y)
    last = xp.full_like(x, xp.inf)  # excluded pairs sort last
    order = xp.argsort(constant(xp.where(finite, x, last)))
    ranks = xp.argsort(order)
    partners = xp.take(xp.sort(constant(xp.where(finite, y, last))), ranks, axis=0)
    return xp.reshape(xp.where(finite, x - partners, xp.full_like(x, xp.nan)), shape)


def _smoothed(margins: Array, label_smoothing: float) -> Array:
    return (1.0 - label_smoothing) * softplus_neg(margins) + label_smoothing * softplus_neg(-margins)


def _aot_weight(p_w: Array, p_l: Array, q_w: Array, q_l: Array, beta: float, label_smoothing: float) -> Array:
    return beta * (sigmoid(-beta * _transported(p_w - p_l, q_w - q_l)) - label_smoothing)


@register(
    title="AOT, paired",
    formula="−(1−ε)·log σ(β·d) − ε·log σ(−β·d), d = u₍ᵢ₎ − v₍ᵢ₎ of the sorted u = p_w − p_l and v = q_w − q_l",
    source="Melnyk et al. 2024, arXiv 2406.05882; TRL's aot, sorted within a batch",
    convention=GAP,
    parameters=(BETA, LABEL_SMOOTHING),
    weight=_aot_weight,
    population="both differences are sorted over all pairs",
)
def aot_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Array:
    """Compute the AOT loss at each pair's rank among the policy's differences, in nats; for one pair, it equals DPO.

    >>> round(aot_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.513015
    """
    p_w, p_l = policy_chosen_logps, policy_rejected_logps
    q_w, q_l = ref_chosen_logps, ref_rejected_logps
    return _smoothed(beta * _transported(p_w - p_l, q_w - q_l), label_smoothing)


def _aot_unpaired_weight(a: Array, c: Array, beta: float, label_smoothing: float) -> Array:
    return beta * (sigmoid(-beta * _transported(a, c)) - label_smoothing)


@register(
    title="AOT, unpaired",
    formula="−(1−ε)·log σ(β·d) − ε·log σ(−β·d), d = a₍ᵢ₎ − c₍ᵢ₎ of the sorted log-ratios",
    source="Melnyk et al. 2024, arXiv 2406.05882; TRL's aot_unpaired (aot_pair up to 0.27)",
    convention=GAP,
    parameters=(BETA, LABEL_SMOOTHING),
    weight=_aot_unpaired_weight,
    population="chosen and rejected log-ratios are sorted over all pairs",
)
def aot_unpaired_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> Array:
    """Compute the unpaired AOT loss at each pair's rank among the chosen log-ratios, in nats.

    >>> round(aot_unpaired_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.513015
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    return _smoothed(beta * _transported(a, c), label_smoothing)


def _reference_point(a: Array, c: Array) -> Array:
    """Compute z₀ = max(0, mean log-ratio of all responses), in nats."""
    xp = array_namespace(a)
    mean = 0.5 * (_mean(a, c) + _mean(c, a))
    return xp.maximum(mean, xp.zeros_like(mean))


def _kto_weight(a: Array, c: Array, beta: float) -> Array:
    x = beta * (a - _reference_point(a, c))
    return beta * sigmoid(x) * sigmoid(-x)


@register(
    title="KTO on both responses",
    formula="2 − σ(β·(a − z₀)) − σ(β·(z₀ − c)) with z₀ = max(0, mean of all log-ratios)",
    source="Ethayarajh et al. 2024, arXiv 2402.01306; its z₀ and TRL's use mismatched prompts and responses",
    convention=EACH,
    parameters=(BETA,),
    weight=_kto_weight,
    population="z₀ is the mean log-ratio of all responses, at least 0",
)
def kto_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the sum of the KTO losses of each pair's two responses, from 0 to 2, with both weights 1.

    TRL estimates z₀ from responses to other prompts, which a ledger does not have.

    >>> round(kto_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    0.900332
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    z = _reference_point(a, c)
    return sigmoid(-beta * (a - z)) + sigmoid(-beta * (z - c))


def _bco_weight(a: Array, c: Array, beta: float) -> Array:
    return beta * sigmoid(-(beta * a - 0.5 * beta * (_mean(a, c) + _mean(c, a))))


@register(
    title="BCO on pairs",
    formula="−log σ(β·a − δ) − log σ(δ − β·c) with δ the mean of all rewards",
    source="Jung et al. 2024, arXiv 2404.04656; TRL's bco_pair up to 0.28 uses a running mean as δ",
    convention=EACH,
    parameters=(BETA,),
    weight=_bco_weight,
    population="δ is the mean reward of all responses",
)
def bco_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the sum of the BCO losses of each pair's two responses, in nats.

    >>> round(bco_loss(-50.0, -60.0, -52.0, -58.0, beta=0.1), 6)
    1.196278
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    delta = 0.5 * beta * (_mean(a, c) + _mean(c, a))
    return softplus_neg(beta * a - delta) + softplus_neg(delta - beta * c)


def _sft_weight(p_w: Array, n_w: Array) -> Array:
    xp = array_namespace(p_w)
    return xp.ones_like(p_w) / _mean(n_w, p_w)


@register(
    title="SFT on the chosen response",
    formula="−p_w / mean(n_w)",
    source="Rafailov et al. 2023, arXiv 2305.18290, its SFT baseline; TRL's sft, a mean over the tokens of a batch",
    convention="sums divided by the mean length, so that their mean is a mean over tokens",
    parameters=(),
    weight=_sft_weight,
    population=MEAN_LENGTH,
)
def sft_loss(policy_chosen_logps: Array, chosen_num_tokens: Array) -> Array:
    """Compute each chosen response's share of the token-mean cross entropy, in nats per token.

    >>> sft_loss(-50.0, 20)
    2.5
    """
    p_w = policy_chosen_logps
    n_w = chosen_num_tokens
    return -p_w / _mean(n_w, p_w)


def _cpo_weight(p_w: Array, p_l: Array, n_w: Array, beta: float, label_smoothing: float, alpha: float) -> Array:
    return beta * (sigmoid(-beta * (p_w - p_l)) - label_smoothing) + alpha / _mean(n_w, p_w, p_l)


@register(
    title="CPO",
    formula="−(1−ε)·log σ(β·(p_w − p_l)) − ε·log σ(−β·(p_w − p_l)) − α·p_w/mean(n_w)",
    source="Xu et al. 2024, arXiv 2401.08417, eq. 3; TRL's CPO trainer, whose cpo_alpha is α",
    convention="sums; β scales the difference of log-probs; the likelihood is a mean over tokens",
    parameters=(
        Parameter("beta", 0.001, 10.0, "log", "scale of the log-probs"),
        LABEL_SMOOTHING,
        NLL_ALPHA,
    ),
    weight=_cpo_weight,
    population=MEAN_LENGTH,
)
def cpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    chosen_num_tokens: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    alpha: float = 1.0,
) -> Array:
    """Compute the CPO loss of each pair, in nats.

    >>> round(cpo_loss(-50.0, -60.0, 20, beta=0.1, alpha=0.0), 6)
    0.313262
    """
    p_w, p_l = policy_chosen_logps, policy_rejected_logps
    n_w = chosen_num_tokens
    return _smoothed(beta * (p_w - p_l), label_smoothing) - alpha * p_w / _mean(n_w, p_w, p_l)


def _rpo_weight(a: Array, c: Array, p_w: Array, n_w: Array, beta: float, label_smoothing: float, alpha: float) -> Array:
    return beta * (sigmoid(-beta * (a - c)) - label_smoothing) + alpha / _mean(n_w, p_w, a, c)


@register(
    title="RPO: DPO with the likelihood of the chosen response",
    formula="−(1−ε)·log σ(β·h) − ε·log σ(−β·h) − α·p_w/mean(n_w)",
    source=(
        "Pang et al. 2024, arXiv 2404.19733, eq. 1, with a mean over each response's own tokens; "
        "TRL's rpo_alpha (up to 0.28) is α; from 0.29 on, loss_type sigmoid and sft with loss_weights 1 and α"
    ),
    convention=f"{GAP}; the likelihood is a mean over tokens",
    parameters=(BETA, LABEL_SMOOTHING, NLL_ALPHA),
    weight=_rpo_weight,
    population=MEAN_LENGTH,
    spellings={"rpo_alpha": lambda _, value: ("alpha", value)},
)
def rpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    ref_chosen_logps: Array,
    ref_rejected_logps: Array,
    chosen_num_tokens: Array,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    alpha: float = 1.0,
) -> Array:
    """Compute the RPO loss of each pair, in nats: DPO plus α times the negative log-likelihood of the chosen response.

    The mean over all pairs is TRL's loss of one batch. TRL 0.12 to 0.28 leaves out chosen tokens with id 0 from the
    likelihood; here every scored token counts.

    References:
        Pang et al. 2024, "Iterative Reasoning Preference Optimization", arXiv 2404.19733, eq. 1.

    >>> round(rpo_loss(-50.0, -60.0, -52.0, -58.0, 20, beta=0.1, alpha=1.0), 6)
    3.013015
    """
    a, c = policy_chosen_logps - ref_chosen_logps, policy_rejected_logps - ref_rejected_logps
    p_w, n_w = policy_chosen_logps, chosen_num_tokens
    return _smoothed(beta * (a - c), label_smoothing) - alpha * p_w / _mean(n_w, p_w, a, c)


def _log_odds(mean: Array) -> Array:
    """Compute log(p/(1−p)) from a mean log-prob."""
    xp = array_namespace(mean)
    return mean - xp.log(-xp.expm1(mean))


def _orpo_weight(p_w: Array, p_l: Array, n_w: Array, n_l: Array, beta: float) -> Array:
    xp = array_namespace(p_w)
    chosen = p_w / n_w
    odds = _log_odds(chosen) - _log_odds(p_l / n_l)
    return 1.0 / _mean(n_w, p_w, p_l) - beta * sigmoid(-odds) / (n_w * xp.expm1(chosen))


@register(
    title="ORPO",
    formula="−p_w/mean(n_w) − β·log σ(o_w − o_l) with o = p̄ − log(1 − e^p̄) of p̄ = p/n",
    source="Hong, Lee and Thorne 2024, arXiv 2403.07691, eq. 4 and 7; TRL's likelihood includes the prompt",
    convention="means over tokens; β scales the odds ratio's part",
    parameters=(ODDS_BETA,),
    weight=_orpo_weight,
    population=MEAN_LENGTH,
)
def orpo_loss(
    policy_chosen_logps: Array,
    policy_rejected_logps: Array,
    chosen_num_tokens: Array,
    rejected_num_tokens: Array,
    beta: float = 0.1,
) -> Array:
    """Compute the ORPO loss of each pair, in nats, with the likelihood of the chosen response without the prompt.

    A response with a mean log-prob of 0 has infinite odds.

    >>> round(orpo_loss(-50.0, -60.0, 20, 30, beta=1.0) - sft_loss(-50.0, 20), 6)
    1.011695
    """
    p_w, p_l = policy_chosen_logps, policy_rejected_logps
    n_w, n_l = chosen_num_tokens, rejected_num_tokens
    odds = _log_odds(p_w / n_w) - _log_odds(p_l / n_l)
    return -p_w / _mean(n_w, p_w, p_l) + beta * softplus_neg(odds)
