"""Token concentration: which tokens the margins come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefscope.preference.diagnostics.diagnostic import CHANCE, NOTHING, Conclusion, Diagnostic, Values
from prefscope.preference.explanation import shared_length
from prefscope.statistics import mean_interval, upper_tail

TOP = 5
"""Number of tokens with the largest |Δ| that are considered together."""
MUCH = 0.5
WORTH_A_WORD = 0.25


@dataclass(frozen=True, slots=True)
class TokenShares:
    """Shares of one pair's margin; Δ is the log-ratio of a token in nats, and h the difference of their sums."""

    tokens: int
    """Number of tokens of both responses."""
    top: float
    """Share of Σ|Δ| in the five tokens with the largest |Δ|."""
    before: float
    """Share of Σ|Δ| in the tokens before the responses diverge, which cancels in the margin."""
    gap: float
    """h = Σ Δ(chosen) − Σ Δ(rejected)."""
    parting: float
    """Contribution to h of the first tokens that differ."""
    ending: float
    """Contribution to h of the tokens that both responses end with, such as end-of-turn tokens."""


@dataclass(frozen=True, slots=True)
class Concentration:
    """Where margins come from, over all pairs whose tokens were read."""

    pairs: int
    """Number of pairs; 2,000 evenly spread ones in a large ledger."""
    tokens: float
    """Median number of tokens per pair, both responses together."""
    top: float
    """Median share of Σ|Δ| in five tokens."""
    before: float
    """Mean share of Σ|Δ| before the responses diverge."""
    parting: float
    """Share of the mean margin from the first tokens that differ; nan if the mean margin is 0."""
    parting_low: float
    parting_high: float
    """Its 95% interval; nan unless the mean margin differs from 0 beyond chance."""
    ending: float
    """Share of the mean margin from the tokens that both responses end with."""
    ending_low: float
    ending_high: float
    """Its 95% interval, as above."""
    mostly_few: int
    """Pairs with more than half of Σ|Δ| in five tokens."""

    def conclude(self) -> Conclusion:
        """Conclude whether a few tokens, or the beginnings or endings of responses, dominate the margin."""
        if not self.pairs:
            return NOTHING
        figure = f"top {TOP} tokens carry {self.top:.0%}"
        ending, parting = (f"{share:.0%} of the mean margin" for share in (self.ending, self.parting))
        if abs(self.ending) > WORTH_A_WORD and self.ending_low * self.ending_high > 0:
            return Conclusion(figure, f"Shared endings give {ending}: a habit, not content", warns=True)
        if abs(self.parting) > MUCH and self.parting_low * self.parting_high > 0:
            return Conclusion(
                figure, f"The first differing tokens give {parting}: the policy learns how to begin", warns=True
            )
        if self.tokens > 4 * TOP and upper_tail(self.mostly_few, self.pairs, 0.5) < CHANCE:
            sentence = f"{TOP} of {self.tokens:.0f} tokens carry most of the change: Pair shows which ones"
            return Conclusion(figure, sentence, warns=True)
        sentence = (
            f"Spread over {self.tokens:.0f} tokens per pair; "
            f"the first differing tokens give {parting}, shared endings {ending}"
        )
        return Conclusion(figure, sentence.replace(" of the mean margin", "", 1))


def token_shares(
    chosen_tokens: Sequence[str], rejected_tokens: Sequence[str], chosen_changes: Values, rejected_changes: Values
) -> TokenShares | None:
    """Return where a pair's margin comes from; None if nothing was scored or a value is not finite.

    Tokens that both responses begin with have the same context, so their Δ are equal and cancel in the margin.

    Args:
        chosen_tokens: Scored tokens of the chosen response, as text.
        rejected_tokens: Scored tokens of the rejected response, as text.
        chosen_changes: Δ of each chosen token, policy − reference, in nats. Shape (tokens,).
        rejected_changes: Δ of each rejected token.

    References:
        Rafailov et al. 2024, "From r to Q*", arXiv 2404.12358: the reward of a token is β·Δ. The shares are derived.

    >>> found = token_shares(["a", "b", "."], ["a", "c", "."], np.array([1.0, 3.0, 0.0]), np.array([1.0, -1.0, 2.0]))
    >>> found.gap, found.before, found.parting, found.ending
    (2.0, 0.25, 4.0, -2.0)
    """
    w, l = chosen_changes, rejected_changes  # noqa: E741 (won and lost)
    sizes = np.abs(np.concatenate([w, l]))
    total = float(sizes.sum())
    if not (len(w) and len(l)) or not math.isfinite(total):
        return None
    start = shared_length(chosen_tokens, rejected_tokens)
    limit = min(len(w), len(l)) - start
    end = min(shared_length(chosen_tokens[::-1], rejected_tokens[::-1]), limit)
    top = float(np.sort(sizes)[-TOP:].sum())
    before = float(np.abs(w[:start]).sum() + np.abs(l[:start]).sum())
    return TokenShares(
        tokens=sizes.size,
        top=top / total if total else 0.0,
        before=before / total if total else 0.0,
        gap=float(w.sum() - l.sum()),
        parting=float(w[start : start + 1].sum() - l[start : start + 1].sum()),
        ending=float(w[len(w) - end :].sum() - l[len(l) - end :].sum()),
    )


def concentration(shares: Sequence[TokenShares]) -> Concentration:
    """Summarise where the margins of several pairs come from."""
    if not shares:
        nan = math.nan
        return Concentration(0, nan, nan, nan, nan, nan, nan, nan, nan, nan, 0)
    gaps = np.array([one.gap for one in shares])
    parting = _ratio(np.array([one.parting for one in shares]), gaps)
    ending = _ratio(np.array([one.ending for one in shares]), gaps)
    return Concentration(
        pairs=len(shares),
        tokens=float(np.median([one.tokens for one in shares])),
        top=float(np.median([one.top for one in shares])),
        before=float(np.mean([one.before for one in shares])),
        parting=parting[0],
        parting_low=parting[1],
        parting_high=parting[2],
        ending=ending[0],
        ending_low=ending[1],
        ending_high=ending[2],
        mostly_few=sum(one.top > MUCH for one in shares),
    )


def _ratio(parts: Values, wholes: Values) -> tuple[float, float, float]:
    """Return the ratio of two means over pairs, with its 95% interval; nan where it is undefined.

    The interval is that of Student's t for the mean of parts − ratio·wholes, over the mean whole (delta method). There
    is none if the mean whole is 0 within its own interval: then any ratio is possible.
    """
    whole, low, high = mean_interval(wholes)
    if not whole:
        return math.nan, math.nan, math.nan
    ratio = float(parts.mean()) / whole
    if not low * high > 0:
        return ratio, math.nan, math.nan
    _, below, above = mean_interval(parts - ratio * wholes)
    half = (above - below) / 2 / abs(whole)
    return ratio, ratio - half, ratio + half


CONCENTRATION = Diagnostic(
    name="concentration",
    title="Token concentration",
    formula=f"Δ = log π − log ref of a token; top {TOP}: share of Σ|Δ|; first differing and shared last: share of Σ h",
    source="token rewards: Rafailov et al. 2024, arXiv 2404.12358; the shares are derived",
    rule=(
        f"a warning above {WORTH_A_WORD:.0%} of the mean margin from shared endings, above {MUCH:.0%} from the first "
        "tokens that differ, if the 95% interval excludes 0 (delta method); or if beyond chance (sign test) most pairs "
        f"have more than {MUCH:.0%} of Σ|Δ| in {TOP} tokens"
    ),
    basis=(
        'conventions: half, and a quarter for endings, which have no content; simulations "first tokens", "shared '
        'ending" and "few tokens"'
    ),
    measure=concentration,
)
