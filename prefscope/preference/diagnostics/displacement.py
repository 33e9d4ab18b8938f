"""Displacement: whether the policy raises the chosen responses, or wins by lowering both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.diagnostics.diagnostic import CHANCE, NOTHING, Conclusion, Diagnostic, Values
from prefscope.statistics import upper_tail, wilson_interval

WORTH_A_WARNING = 0.25
"""If both log-ratios are drawn from one symmetric distribution, the share is ⅛ if they are independent, and nears ¼
the more they correlate."""
WORTH_A_WORD = 0.1
MOST = 0.5
QUADRANTS = ("up_down", "up_up", "down_down", "down_up", "still")
"""Direction of chosen, then of rejected, relative to the reference; `still` if one of the two did not move."""


@dataclass(frozen=True, slots=True)
class Displacement:
    """How often the policy raised or lowered chosen and rejected responses relative to the reference."""

    pairs: int
    """Number of pairs."""
    up_down: int
    """Chosen up, rejected down: a > 0, c < 0."""
    up_up: int
    """Both up."""
    down_down: int
    """Both down."""
    down_up: int
    """Chosen down, rejected up."""
    still: int
    """One of the two did not move: a = 0 or c = 0."""
    won_by_lowering_both: int
    """Pairs with a positive margin whose chosen response became less likely, but the rejected one even more so."""

    def conclude(self) -> Conclusion:
        """Conclude whether the policy wins by lowering both responses."""
        if not self.pairs:
            return NOTHING
        share, falls = self.won_by_lowering_both / self.pairs, (self.down_down + self.down_up) / self.pairs
        low, high = wilson_interval(self.won_by_lowering_both, self.pairs)
        figure = f"{share:.1%} ({100 * low:.0f}–{100 * high:.0f}) by lowering both"
        rises = self.up_down + self.up_up
        warns = upper_tail(self.won_by_lowering_both, self.pairs, WORTH_A_WARNING) < CHANCE
        if warns:
            sentence = f"{falls:.0%} of chosen responses became less likely; DPOP or an SFT term counteracts this"
        elif share > WORTH_A_WORD:
            sentence = "Some pairs are won although chosen became less likely: look at them before training further"
        elif not rises and not falls:
            sentence = "No response moved: policy and reference are the same"
        elif falls > MOST:
            sentence = f"{falls:.0%} of chosen responses became less likely, but hardly any pair is won that way"
        else:
            sentence = f"{rises / self.pairs:.0%} of chosen responses became more likely: little displacement"
        return Conclusion(figure, sentence, warns=warns)


def quadrants(chosen_logratios: Values, rejected_logratios: Values) -> NDArray[np.str_]:
    """Return the quadrant of each pair: `up_down` is chosen up, rejected down, and so on.

    It is `still` if one of the two log-ratios is 0, and empty if one is not finite.

    Args:
        chosen_logratios: a, policy − reference log-prob of the chosen response, in nats. Shape (pairs,).
        rejected_logratios: c, the same for the rejected response.

    >>> quadrants(np.array([1.0, -4.0, 0.0]), np.array([-1.0, -10.0, 1.0])).tolist()
    ['up_down', 'down_down', 'still']
    """
    a, c = chosen_logratios, rejected_logratios
    conditions = [
        ~(np.isfinite(a) & np.isfinite(c)),
        (a > 0) & (c < 0),
        (a > 0) & (c > 0),
        (a < 0) & (c < 0),
        (a < 0) & (c > 0),
    ]
    return np.select(conditions, ["", *QUADRANTS[:-1]], default=QUADRANTS[-1])


def displacement(chosen_logratios: Values, rejected_logratios: Values) -> Displacement:
    """Count the pairs in each quadrant of sign(a) × sign(c), and those won by lowering both.

    Won by lowering both means a − c > 0 and a < 0, which does not depend on beta.

    Args:
        chosen_logratios: a, in nats; only finite values. Shape (pairs,).
        rejected_logratios: c, the same.

    References:
        Razin et al. 2024, arXiv 2410.08847; Pal et al. 2024, arXiv 2402.13228.
    """
    a, c = chosen_logratios, rejected_logratios
    signs = (np.sign(a) * 3 + np.sign(c)).astype(np.int64)  # each combination of signs has a unique number
    counts = {sign: int(np.count_nonzero(signs == sign)) for sign in (2, 4, -4, -2)}
    return Displacement(
        pairs=a.size,
        up_down=counts[2],
        up_up=counts[4],
        down_down=counts[-4],
        down_up=counts[-2],
        still=a.size - sum(counts.values()),
        won_by_lowering_both=int(np.count_nonzero((a > c) & (a < 0))),
    )


DISPLACEMENT = Diagnostic(
    name="displacement",
    title="Displacement",
    formula="sign(a) × sign(c); won by lowering both: a > c and a < 0",
    source="Razin et al. 2024, arXiv 2410.08847; Pal et al. 2024, arXiv 2402.13228",
    rule=(
        f"a warning if, beyond chance (exact binomial test), above {WORTH_A_WARNING:.0%} of pairs are won by lowering "
        f"both, the share of a policy that moves both responses at random and alike; a note above {WORTH_A_WORD:.0%}"
    ),
    basis='derived: ¼ is the largest share of symmetric moves; simulation "displacement"',
    measure=displacement,
)
