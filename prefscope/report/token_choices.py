"""What the models would have said instead of a token, in words; texts are safe to show."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prefscope.ledger.alternatives import Alternatives, Choices
from prefscope.preference.kept_tokens import least_divergence
from prefscope.report.visible import visible

MOST_SAID = 3
"""Tokens of a model that are named in a line."""
LONGEST = 40
"""Characters of a token that are shown."""
NAMES = {"policy": "policy", "ref": "reference"}
ALMOST = 0.005


def chance(logp: float) -> str:
    """Format a log-prob as a probability.

    >>> chance(math.log(0.41)), chance(-9.0), chance(0.0), chance(math.nan)
    ('41%', '<1%', '>99%', '·')
    """
    if math.isnan(logp):
        return "·"
    p = math.exp(min(logp, 0.0))
    return "<1%" if p < ALMOST else ">99%" if p > 1 - ALMOST else f"{p:.0%}"


def said(choices: Choices, most: int = MOST_SAID) -> str:
    """Return the most probable tokens of a model with their probabilities."""
    some = list(zip(choices.texts, choices.logps, strict=True))[:most]
    return ", ".join(f"“{_shown(text)}” {chance(logp)}" for text, logp in some) or "unknown"


def _shown(text: str) -> str:
    return visible(text) if len(text) <= LONGEST else f"{visible(text[:LONGEST])}…"


def at_least(policy: Choices, ref: Choices) -> float:
    """Return the lower bound of KL(policy‖reference) at a position that the kept tokens give, in nats."""
    return least_divergence(policy.ids, policy.logps, ref.ids, ref.logps)


def divergence_text(policy: Choices, ref: Choices) -> str:
    """Format the divergence at a position: the exact one if it was measured, otherwise the bound."""
    return bound_text(at_least(policy, ref)) if policy.divergence is None else exact_text(policy.divergence)


def exact_text(divergence: float) -> str:
    """Format a divergence; it is infinite if the reference excludes a token that the policy does not.

    >>> exact_text(0.319), exact_text(math.inf), exact_text(math.nan)
    ('KL 0.32', 'KL ∞', 'KL ·')
    """
    return "KL ·" if math.isnan(divergence) else "KL ∞" if math.isinf(divergence) else f"KL {divergence:.2f}"


def bound_text(bound: float) -> str:
    """Format a lower bound, rounded down.

    >>> bound_text(0.319), bound_text(math.nan)
    ('KL ≥ 0.31', 'KL ≥ ·')
    """
    return f"KL ≥ {math.floor(100 * bound) / 100:.2f}" if math.isfinite(bound) else "KL ≥ ·"


def rank_text(rank: int) -> str:
    """Format the rank of the actual token, 0 of which means that it is unknown."""
    return f"rank {rank:,}" if rank > 0 else "rank ·"


def choices_at(alternatives: Mapping[tuple[str, str], Alternatives], side: str, token: int) -> dict[str, Choices]:
    """Return the choices of each model at a token of a response, by role; empty if they are not kept."""
    found = {role: alternatives.get((role, side)) for role in NAMES}
    return {role: one.at(token) for role, one in found.items() if one is not None}


def instead(choices: Mapping[str, Choices]) -> str:
    """Return what each model would have said at a token, in one line; empty without choices."""
    parts = [f"{NAMES[role]} ({rank_text(one.rank)}): {said(one)}" for role, one in choices.items()]
    if len(choices) == len(NAMES):
        parts.append(divergence_text(choices["policy"], choices["ref"]))
    return "; ".join(parts)
