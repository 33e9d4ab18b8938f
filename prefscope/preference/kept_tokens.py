"""What the most probable tokens of two models say of the divergence between their whole distributions."""

from __future__ import annotations

import math
from collections.abc import Sequence

ROUNDING = 1e-3
"""Allowance for log-probs in half precision, in probability."""


def least_divergence(
    policy_ids: Sequence[int], policy_logps: Sequence[float], ref_ids: Sequence[int], ref_logps: Sequence[float]
) -> float:
    """Return a lower bound of KL(policy‖reference) at one position, in nats; nan if a log-prob is nan.

    The tokens kept of the policy, and all others together, are the cells of a partition. By the log-sum inequality, KL
    is at least Σ P(cell) log(P(cell) / Q(cell)) (Cover and Thomas, Elements of Information Theory, theorem 2.7.1). A
    token kept of the policy alone has at most the reference's smallest kept probability: the bound is the least value
    over all reference distributions with that. There is no upper bound, as the reference may give any other token
    a probability of almost 0.

    Args:
        policy_ids: Ids of the policy's most probable tokens.
        policy_logps: Their log-probs under the policy.
        ref_ids: Ids of the reference's most probable tokens.
        ref_logps: Their log-probs under the reference.

    >>> round(least_divergence([1, 2], [math.log(0.5), math.log(0.25)], [1, 2], [math.log(0.25), math.log(0.5)]), 2)
    0.17
    """
    if any(map(math.isnan, (*policy_logps, *ref_logps))):
        return math.nan
    known = dict(zip(ref_ids, map(_probability, ref_logps), strict=True))
    most = min(known.values(), default=1.0)
    kept = sorted(zip(map(_probability, policy_logps), policy_ids, strict=True), reverse=True)
    bound = 0.0
    rest, rest_of_ref = max(1.0 - sum(p for p, _ in kept), 0.0), 1.0 + ROUNDING
    unknown = []
    for p, token in kept:
        if token in known:
            bound += _term(p, known[token])
            rest_of_ref -= known[token]
        else:
            unknown.append(p)
    rest_of_ref = max(rest_of_ref, ROUNDING)
    rest += sum(unknown)
    for p in unknown:  # in descending order; those above the limit get it, the others a share of what is left
        if rest <= 0 or p * rest_of_ref <= most * rest:
            break
        bound += _term(p, most)
        rest, rest_of_ref = rest - p, rest_of_ref - most
    return max(bound + _term(rest, rest_of_ref), 0.0)


def _term(p: float, q: float) -> float:
    """Return p log(p / q)."""
    if p <= 0:
        return 0.0
    return p * math.log(p / q) if q > 0 else math.inf


def _probability(logp: float) -> float:
    """Return exp(logp); 1 for a damaged log-prob above 0."""
    return math.exp(min(logp, 0.0))
