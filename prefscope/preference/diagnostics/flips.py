"""Flipped labels: the probability that a pair's label is wrong, as estimated from the policy's margins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefscope.preference.arrays import sigmoid
from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values

LEAST_NOISE, MOST_NOISE = 0.01, 0.5
"""Bounds of the assumed noise. Posteriors assume at least 1% flipped labels, or no pair could be suspected; above one
half, the labels as a whole would be inverted."""
SUSPECT = 0.5
WORTH_A_WARNING = 0.05
STEPS = 36


@dataclass(frozen=True, slots=True)
class Flips:
    """Label noise as estimated from the margins, and the pairs that are more likely flipped than not."""

    pairs: int
    """Number of pairs."""
    noise: float
    """Maximum likelihood estimate of ε, the fixed point of EM; 0 to 0.5."""
    assumed: float
    """ε used for the posteriors: the estimate, but at least 0.01."""
    suspects: int
    """Pairs with a posterior above one half."""
    threshold: float
    """Upper bound of their margins, in beta·nats."""

    def conclude(self) -> Conclusion:
        """Conclude whether labels look flipped."""
        if not self.pairs:
            return NOTHING
        figure = f"noise {self.noise:.1%}, {self.suspects:,} suspected"
        if self.noise > WORTH_A_WARNING:
            sentence = f"Read pairs with margins below {self.threshold:.2g} first: the label or the policy is wrong"
        elif self.suspects:
            sentence = f"Margins explain the labels; still read the {self.suspects:,} below {self.threshold:.2g}"
        else:
            sentence = "No pair is wrong by enough to suspect its label"
        return Conclusion(figure, sentence, warns=self.noise > WORTH_A_WARNING)


def flip_posteriors(margins: Values, noise: float) -> Values:
    """Return the probability that each label is flipped: ρ = ε·σ(−m) / (ε·σ(−m) + (1 − ε)·σ(m)).

    It decreases monotonically with the margin, so it ranks pairs like the margin, but on the scale of a probability. It
    is computed as σ(log(ε/(1 − ε)) − m), which is equal and never overflows.

    Args:
        margins: m, in beta·nats. Any shape; nan gives nan.
        noise: ε, the assumed share of flipped labels, between 0 and 1.

    References:
        rDPO, arXiv 2403.00409, for the noise model; the posterior is derived.

    >>> flip_posteriors(np.array([0.0]), 0.1).round(6).tolist()
    [0.1]
    """
    with np.errstate(invalid="ignore"):  # nan stays nan, without a warning
        posteriors: Values = sigmoid(math.log(noise) - math.log1p(-noise) - margins)
    return posteriors


def label_noise(margins: Values) -> float:
    """Return the maximum likelihood estimate of the share ε of flipped labels, from 0 to 0.5; nan without pairs.

    Definition: argmax of mean log(ε·σ(−m) + (1 − ε)·σ(m)). EM, ε ← mean ρ(ε), converges to it slowly; the function is
    concave in ε, so bisection on the sign of its derivative is faster.

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
    """Return the ε used for posteriors: the maximum likelihood estimate, between 0.01 and 0.5; nan without pairs."""
    noise = label_noise(margins[np.isfinite(margins)])
    return max(noise, LEAST_NOISE) if noise == noise else noise  # noqa: PLR0124 (nan)


def flips(margins: Values) -> Flips:
    """Estimate the label noise, and count the pairs that are more likely flipped than not.

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
    rule=f"a warning above ε = {WORTH_A_WARNING:g}; a pair is suspected if ρ > {SUSPECT:g}",
    measure=flips,
    dispute=(
        "ROPO (arXiv 2404.04102) drops pairs of high loss as noise; arXiv 2508.04149 finds small gaps, the hard pairs, "
        "most worth training on; arXiv 2502.14560 the largest margins: read the pairs before dropping any"
    ),
)
