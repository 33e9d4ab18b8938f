"""Flipped labels: how likely the data set has a pair the wrong way round, as far as the policy can tell."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefscope.preference.arrays import sigmoid
from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values

LEAST_NOISE, MOST_NOISE = 0.01, 0.5
"""Posteriors assume at least one flipped label in a hundred, else no pair could be suspected; beyond one half the
labels as a whole would be the wrong way round."""
SUSPECT = 0.5
WORTH_A_WARNING = 0.05
STEPS = 36


@dataclass(frozen=True, slots=True)
class Flips:
    """Noise of the labels as far as margins tell, and the pairs that are more likely flipped than not."""

    pairs: int
    """All that were looked at."""
    noise: float
    """ε of greatest likelihood, which EM comes to; 0 to 0.5."""
    assumed: float
    """ε of the posteriors: the same, but at least 0.01."""
    suspects: int
    """Pairs of a posterior above one half."""
    threshold: float
    """Their margins are below this, in beta·nats."""

    def conclude(self) -> Conclusion:
        """Return whether labels look flipped."""
        if not self.pairs:
            return NOTHING
        figure = f"noise {self.noise:.1%}, {self.suspects:,} suspected"
        if self.noise > WORTH_A_WARNING:
            told = f"Read pairs of margin below {self.threshold:.2g} first: labels or the policy are wrong there"
        elif self.suspects:
            told = f"Margins explain the labels; still read the {self.suspects:,} below {self.threshold:.2g}"
        else:
            told = "No pair is wrong by so much that its label is the likelier mistake"
        return Conclusion(figure, told, warns=self.noise > WORTH_A_WARNING)


def flip_posteriors(margins: Values, noise: float) -> Values:
    """Return for each pair how likely its label is flipped: ρ = ε·σ(−m) / (ε·σ(−m) + (1 − ε)·σ(m)), from 0 to 1.

    It falls as the margin grows, so its order is that of the margins; what it adds is the scale. Computed as
    σ(log(ε/(1 − ε)) − m), which is the same and never overflows.

    Args:
        margins: m, in beta·nats. Any shape; nan gives nan.
        noise: ε, the share of flipped labels assumed, between 0 and 1.

    References:
        rDPO, arXiv 2403.00409, for the model of noise; the posterior is derived.

    >>> flip_posteriors(np.array([0.0]), 0.1).round(6).tolist()
    [0.1]
    """
    with np.errstate(invalid="ignore"):  # nan stays nan, without a word
        posteriors: Values = sigmoid(math.log(noise) - math.log1p(-noise) - margins)
    return posteriors


def label_noise(margins: Values) -> float:
    """Return the share ε of flipped labels under which the margins' labels are most likely, from 0 to 0.5.

    Definition: argmax of mean log(ε·σ(−m) + (1 − ε)·σ(m)). EM, ε ← mean ρ(ε), comes to it in many steps; the function
    is concave in ε, so halving the interval in which its derivative changes sign comes to it in few. nan without pairs.

    Args:
        margins: m, in beta·nats; only finite values. Shape (pairs,).

    >>> round(label_noise(np.array([20.0, 20.0, 20.0, -20.0])), 6)
    0.25
    """
    if margins.size == 0:
        return math.nan
    right = sigmoid(margins)
    change = sigmoid(-margins) - right

    def slope(noise: float) -> float:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return float(np.mean(change / (right + noise * change)))

    if slope(0.0) <= 0:
        return 0.0
    low, high = 0.0, MOST_NOISE
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return high if high == MOST_NOISE else (low + high) / 2


def assumed_noise(margins: Values) -> float:
    """Return the ε that posteriors assume: that of greatest likelihood, within 0.01 and 0.5; nan without a pair."""
    noise = label_noise(margins[np.isfinite(margins)])
    return max(noise, LEAST_NOISE) if noise == noise else noise  # noqa: PLR0124 (nan)


def flips(margins: Values) -> Flips:
    """Return the noise of the labels, and how many pairs are more likely flipped than not.

    Args:
        margins: m, in beta·nats; only finite values. Shape (pairs,).
    """
    noise = label_noise(margins)
    assumed = max(noise, LEAST_NOISE)
    suspects = int(np.count_nonzero(flip_posteriors(margins, assumed) > SUSPECT)) if margins.size else 0
    threshold = math.log(assumed) - math.log1p(-assumed) if margins.size else math.nan
    return Flips(margins.size, noise, assumed, suspects, threshold)


FLIPS = Diagnostic(
    name="flips",
    title="Flipped labels",
    formula="ρ = ε·σ(−m)/(ε·σ(−m) + (1 − ε)·σ(m)); ε by maximum likelihood (EM's fixed point), at least 0.01",
    source="noise model: rDPO, arXiv 2403.00409; the posterior is derived",
    rule=f"a warning above ε = {WORTH_A_WARNING:g}; a pair is suspected where ρ > {SUSPECT:g}",
    measure=flips,
    dispute=(
        "ROPO (arXiv 2404.04102) drops pairs of high loss as noise; arXiv 2508.04149 finds small gaps, the hard pairs, "
        "most worth training on; arXiv 2502.14560 the largest margins: read the pairs before dropping any"
    ),
)
