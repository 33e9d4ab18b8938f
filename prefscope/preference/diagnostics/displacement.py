"""Displacement: whether the policy raises the chosen responses, or wins by lowering both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values

WORTH_A_WARNING = 0.25
WORTH_A_WORD = 0.1
MOST = 0.5
QUADRANTS = ("up_down", "up_up", "down_down", "down_up", "still")
"""Chosen up or down against the reference, then rejected; `still` where one of the two did not move."""


@dataclass(frozen=True, slots=True)
class Displacement:
    """How often the policy moved chosen and rejected responses up and down against the reference."""

    pairs: int
    """All that were looked at."""
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
    """Pairs with a margin above 0 whose chosen response became less likely: its rejected one fell further."""

    def conclude(self) -> Conclusion:
        """Return whether the policy wins by lowering both responses."""
        if not self.pairs:
            return NOTHING
        share, falls = self.won_by_lowering_both / self.pairs, (self.down_down + self.down_up) / self.pairs
        figure = f"{share:.1%} won by lowering both"
        rises = self.up_down + self.up_up
        if share > WORTH_A_WARNING:
            told = f"{falls:.0%} of chosen responses became less likely; DPOP or an SFT term holds them up"
        elif share > WORTH_A_WORD:
            told = "Some wins cost the chosen response likelihood: see which, before training on"
        elif not rises and not falls:
            told = "No response moved: policy and reference are the same"
        elif falls > MOST:
            told = f"{falls:.0%} of chosen responses became less likely, and hardly a pair is won by it"
        else:
            told = f"{rises / self.pairs:.0%} of chosen responses became more likely: little displacement"
        return Conclusion(figure, told, warns=share > WORTH_A_WARNING)


def quadrants(chosen_logratios: Values, rejected_logratios: Values) -> NDArray[np.str_]:
    """Return for each pair where its two responses went: `up_down` is chosen up, rejected down, and so on.

    `still` where one of the two log-ratios is 0; empty where one is not finite.

    Args:
        chosen_logratios: a, policy − reference log-prob of the chosen response, in nats. Shape (pairs,).
        rejected_logratios: c, the same of the rejected one.

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
    """Return how many pairs lie in each quadrant of sign(a) × sign(c), and how many were won by lowering both.

    Won by lowering both: a − c > 0 and a < 0, whatever beta is.

    Args:
        chosen_logratios: a, in nats; only finite values. Shape (pairs,).
        rejected_logratios: c, the same.

    References:
        Razin et al. 2024, arXiv 2410.08847; Pal et al. 2024, arXiv 2402.13228.
    """
    a, c = chosen_logratios, rejected_logratios
    signs = (np.sign(a) * 3 + np.sign(c)).astype(np.int64)  # each pair of signs has a number of its own
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
    rule=f"a warning above {WORTH_A_WARNING:.0%} of pairs won by lowering both, a word above {WORTH_A_WORD:.0%}",
    measure=displacement,
)
