"""Per-token concentration: which tokens the margins come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values

TOP = 5
"""So many tokens of the greatest |Δ| are taken together."""
MUCH = 0.5
WORTH_A_WORD = 0.25


@dataclass(frozen=True, slots=True)
class TokenShares:
    """Where the margin of one pair comes from; Δ is the log-ratio of a token, in nats, and h their difference."""

    tokens: int
    """Of both responses."""
    top: float
    """Share of Σ|Δ| in the five tokens of the greatest |Δ|."""
    before: float
    """Share of Σ|Δ| in the tokens before the responses part: it cancels in the margin."""
    gap: float
    """h = Σ Δ(chosen) − Σ Δ(rejected)."""
    parting: float
    """What of h the first tokens that differ give."""
    ending: float
    """What of h the tokens give that both responses end with, such as end-of-turn tokens."""


@dataclass(frozen=True, slots=True)
class Concentration:
    """Where margins come from, over the pairs whose tokens were read."""

    pairs: int
    """Of a large ledger 2,000, evenly spread."""
    tokens: float
    """Median number of a pair's tokens, both responses together."""
    top: float
    """Median share of Σ|Δ| in five tokens."""
    before: float
    """Mean share of Σ|Δ| before the responses part."""
    parting: float
    """Share of the mean margin from the first tokens that differ; nan where the mean margin is 0."""
    ending: float
    """Share of the mean margin from the tokens that both responses end with."""

    def conclude(self) -> Conclusion:
        """Return whether a few tokens, or how responses begin or end, make the margin."""
        if not self.pairs:
            return NOTHING
        figure = f"top {TOP} tokens move {self.top:.0%}"
        ending, parting = (f"{share:.0%} of the mean margin" for share in (self.ending, self.parting))
        if abs(self.ending) > WORTH_A_WORD:
            return Conclusion(figure, f"How responses end gives {ending}: a habit, not their content", warns=True)
        if abs(self.parting) > MUCH:
            return Conclusion(
                figure, f"The first token that differs gives {parting}: how to begin is learnt", warns=True
            )
        if self.top > MUCH and self.tokens > 4 * TOP:
            told = f"Of {self.tokens:.0f} tokens {TOP} move most: look at which in Pair"
            return Conclusion(figure, told, warns=True)
        told = (
            f"Spread over {self.tokens:.0f} tokens a pair; first differing ones give {parting}, shared endings {ending}"
        )
        return Conclusion(figure, told.replace(" of the mean margin", "", 1))


def token_shares(
    chosen_tokens: Sequence[str], rejected_tokens: Sequence[str], chosen_changes: Values, rejected_changes: Values
) -> TokenShares | None:
    """Return where a pair's margin comes from; None where nothing was scored or a value is not finite.

    Tokens that both responses begin with have the same contexts, so their Δ are equal and cancel in the margin.

    Args:
        chosen_tokens: The scored tokens as texts.
        rejected_tokens: The same.
        chosen_changes: Δ of each, policy − reference, in nats. Shape (tokens,).
        rejected_changes: The same.

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
    start = _shared(chosen_tokens, rejected_tokens)
    limit = min(len(w), len(l)) - start
    end = min(_shared(chosen_tokens[::-1], rejected_tokens[::-1]), limit)
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


def _shared(tokens: Sequence[str], others: Sequence[str]) -> int:
    """Return with how many of the same tokens both begin."""
    differ = (at for at, (one, other) in enumerate(zip(tokens, others, strict=False)) if one != other)
    return next(differ, min(len(tokens), len(others)))


def concentration(shares: Sequence[TokenShares]) -> Concentration:
    """Return where the margins of some pairs come from, all together."""
    if not shares:
        return Concentration(0, *[math.nan] * 5)
    gap = sum(one.gap for one in shares)

    def of_margin(values: Sequence[float]) -> float:
        return sum(values) / gap if gap else math.nan

    return Concentration(
        pairs=len(shares),
        tokens=float(np.median([one.tokens for one in shares])),
        top=float(np.median([one.top for one in shares])),
        before=float(np.mean([one.before for one in shares])),
        parting=of_margin([one.parting for one in shares]),
        ending=of_margin([one.ending for one in shares]),
    )


CONCENTRATION = Diagnostic(
    name="concentration",
    title="Token concentration",
    formula=f"Δ = log π − log ref of a token; top {TOP}: share of Σ|Δ|; first differing and shared last: share of Σ h",
    source="token rewards: Rafailov et al. 2024, arXiv 2404.12358; the shares are derived",
    rule=(
        f"a warning above {WORTH_A_WORD:.0%} of the mean margin from shared endings, above {MUCH:.0%} from the first "
        f"tokens that differ, or above {MUCH:.0%} of the median pair's Σ|Δ| in {TOP} tokens"
    ),
    measure=concentration,
)
