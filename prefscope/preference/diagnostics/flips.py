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
MOST_POINTS = 1000
"""Margins of more pairs are averaged in groups of neighbours, which changes neither estimate noticeably."""
WIDEST = (-1.5, 2.0)
"""Powers of ten of the scales that are tried, relative to the median margin."""
SMALLEST = 1e-12
"""Margins below this are rounding, whatever their ratios."""
COARSE, FINE = 36, 41
"""Scales of the first and of the second search."""
STEPS = 30
TIE = 1e-9
"""Relative difference of log-likelihoods that is rounding."""
LIKELY = 1.920729
"""Half the 95% quantile of χ² with one degree of freedom: how far the log-likelihood falls within the interval."""


@dataclass(frozen=True, slots=True)
class Flips:
    """Label noise as estimated from the margins, and the pairs that are more likely flipped than not."""

    pairs: int
    """Number of pairs."""
    noise: float
    """Maximum likelihood estimate of ε; 0 to 0.5."""
    low: float
    high: float
    """Its 95% interval, by the profile likelihood."""
    scale: float
    """s: what the margins have to be multiplied by to be the log-odds of a right label."""
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
        bounds = f"{100 * self.low:.0f}–{100 * self.high:.0f}"
        figure = f"noise {self.noise:.1%} ({bounds}), {self.suspects:,} suspects"
        warns = self.noise > WORTH_A_WARNING and self.low > 0
        if warns:
            sentence = f"Read pairs with margins below {self.threshold:.2g} first: the label or the policy is wrong"
        elif self.suspects:
            sentence = f"Margins explain most labels; still read the {self.suspects:,} below {self.threshold:.2g}"
        elif self.high > WORTH_A_WARNING:
            sentence = f"No pair stands out, but up to {self.high:.0%} flipped labels fit these margins as well"
        else:
            sentence = "No pair is wrong by enough to suspect its label"
        return Conclusion(figure, sentence, warns=warns)


@dataclass(frozen=True, slots=True)
class NoiseFit:
    """The share of flipped labels and the scale of the margins that explain the labels best; nan without pairs."""

    noise: float
    low: float
    high: float
    scale: float
    """As in `Flips`."""

    @property
    def assumed(self) -> float:
        """ε used for the posteriors."""
        return max(self.noise, LEAST_NOISE) if math.isfinite(self.noise) else math.nan


def flip_posteriors(margins: Values, noise: float, scale: float = 1.0) -> Values:
    """Return the probability that each label is flipped: ρ = ε·σ(−s·m) / (ε·σ(−s·m) + (1 − ε)·σ(s·m)).

    It decreases monotonically with the margin, so it ranks pairs like the margin, but on the scale of a probability. It
    is computed as σ(log(ε/(1 − ε)) − s·m), which is equal and never overflows.

    Args:
        margins: m, in beta·nats. Any shape; nan gives nan.
        noise: ε, the assumed share of flipped labels, between 0 and 1.
        scale: s, what margins are multiplied by.

    References:
        rDPO, arXiv 2403.00409, for the noise model; the posterior is derived.

    >>> flip_posteriors(np.array([0.0]), 0.1).round(6).tolist()
    [0.1]
    """
    with np.errstate(invalid="ignore", over="ignore"):  # nan stays nan, without a warning
        posteriors: Values = sigmoid(math.log(noise) - math.log1p(-noise) - scale * margins)
    return posteriors


def fit_noise(margins: Values) -> NoiseFit:
    """Return the maximum likelihood estimate of the share ε of flipped labels and the scale s of the margins.

    Definition: argmax of Σ log((1 − ε)·σ(s·m) + ε·σ(−s·m)). A policy that was trained lightly has small margins that
    rank pairs well, so their size cannot be read as log-odds: s is fitted along with ε. The likelihood is concave in ε
    for every s; it is maximised by bisection for each of many s, first coarsely, then around the best one. The interval
    holds every ε for which some s makes the labels nearly as likely (profile likelihood).

    Args:
        margins: m, in beta·nats; only finite values. Shape (pairs,).

    >>> round(fit_noise(np.array([20.0, 25.0, 40.0, -30.0])).noise, 2)
    0.25
    """
    if margins.size == 0:
        return NoiseFit(math.nan, math.nan, math.nan, math.nan)
    points, weights = _condensed(margins)
    sizes = np.abs(points[points != 0])
    unit = 1.0 / max(float(np.median(sizes)), SMALLEST) if sizes.size else 1.0
    scales = np.logspace(*WIDEST, COARSE) * unit
    best = scales[_best(_best_noise(points, weights, scales)[1])]
    scales = np.clip(best * np.logspace(-0.3, 0.3, FINE), scales[0], scales[-1])
    noises, likelihoods = _best_noise(points, weights, scales)
    at = _best(likelihoods)
    low, high = _interval(points, weights, np.logspace(*WIDEST, COARSE) * unit, scales, float(likelihoods[at]))
    noise = float(noises[at])
    return NoiseFit(noise, min(low, noise), min(max(high, noise), MOST_NOISE), float(scales[at]))


def _best(likelihoods: Values) -> int:
    """Return the place of the highest likelihood.

    Where several scales explain the labels equally well, as for margins of one size, it is the first: the least noise.
    """
    highest = float(likelihoods.max())
    return int(np.argmax(likelihoods >= highest - TIE * max(1.0, abs(highest))))


def _condensed(margins: Values) -> tuple[Values, Values]:
    """Return margins and their weights, or for many pairs the means of groups of neighbours."""
    if margins.size <= MOST_POINTS:
        return margins, np.ones(margins.size)
    groups = np.array_split(np.sort(margins), MOST_POINTS)
    return np.array([group.mean() for group in groups]), np.array([float(group.size) for group in groups])


def _right(points: Values, scales: Values) -> Values:
    """Return σ(s·m). Shape (scales, points)."""
    with np.errstate(over="ignore"):
        found: Values = sigmoid(np.clip(scales[:, None] * points, -700.0, 700.0))
    return found


def _best_noise(points: Values, weights: Values, scales: Values) -> tuple[Values, Values]:
    """Return the best ε for each scale, and its log-likelihood. Shape (scales,) each."""
    right = _right(points, scales)
    change = 1.0 - 2.0 * right
    low, high = np.zeros(len(scales)), np.full(len(scales), MOST_NOISE)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        starts_down = (change / right) @ weights <= 0
        for _ in range(STEPS):
            middle = (low + high) / 2
            rises = (change / (right + middle[:, None] * change)) @ weights > 0
            low, high = np.where(rises, middle, low), np.where(rises, high, middle)
        noises = np.where(starts_down, 0.0, np.where(high == MOST_NOISE, high, (low + high) / 2))
        likelihoods: Values = np.log(right + noises[:, None] * change) @ weights
    return noises, likelihoods


def _interval(points: Values, weights: Values, coarse: Values, fine: Values, best: float) -> tuple[float, float]:
    """Return the lowest and highest ε that are nearly as likely as the best one with some scale, of those tried."""
    right = _right(points, np.concatenate([coarse, fine]))
    change = 1.0 - 2.0 * right
    noises = np.concatenate([np.arange(0.0, 0.1, 0.005), np.arange(0.1, 0.501, 0.02)])
    with np.errstate(divide="ignore"):
        profile = np.array([(np.log(right + noise * change) @ weights).max() for noise in noises])
    likely = noises[profile >= best - LIKELY]
    return (float(likely[0]), float(likely[-1])) if likely.size else (math.inf, -math.inf)


def suspicion(margins: Values) -> Values:
    """Return each pair's posterior of a flip under the fit to all finite margins; nan where the margin is."""
    fit = fit_noise(margins[np.isfinite(margins)])
    if not math.isfinite(fit.assumed):
        return np.full(margins.shape, np.nan)
    return flip_posteriors(margins, fit.assumed, fit.scale)


def flips(margins: Values) -> Flips:
    """Estimate the label noise, and count the pairs that are more likely flipped than not.

    Args:
        margins: m, in beta·nats; only finite values. Shape (pairs,).
    """
    fit = fit_noise(margins)
    if not margins.size:
        return Flips(0, fit.noise, fit.low, fit.high, fit.scale, LEAST_NOISE, 0, math.nan)
    suspects = int(np.count_nonzero(flip_posteriors(margins, fit.assumed, fit.scale) > SUSPECT))
    threshold = (math.log(fit.assumed) - math.log1p(-fit.assumed)) / fit.scale
    return Flips(margins.size, fit.noise, fit.low, fit.high, fit.scale, fit.assumed, suspects, threshold)


FLIPS = Diagnostic(
    name="flips",
    title="Flipped labels",
    formula="ρ = ε·σ(−s·m)/(ε·σ(−s·m) + (1 − ε)·σ(s·m)); ε and s by maximum likelihood, ε at least 0.01",
    source="noise model: rDPO, arXiv 2403.00409; the posterior is derived",
    rule=(
        f"a warning above ε = {WORTH_A_WARNING:g} if its interval excludes 0; a pair is suspected if ρ > {SUSPECT:g}; "
        "flipped pairs that the policy was trained on have large margins and cannot be found"
    ),
    measure=flips,
    dispute=(
        "ROPO (arXiv 2404.04102) drops pairs of high loss as noise; arXiv 2508.04149 finds small gaps, the hard pairs, "
        "most worth training on; arXiv 2502.14560 the largest margins: read the pairs before dropping any"
    ),
)
