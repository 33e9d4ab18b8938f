"""The share of flipped labels that explains the margins best, and each pair's probability of being flipped."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefscope.preference.arrays import sigmoid
from prefscope.preference.diagnostics.diagnostic import Values

LEAST_NOISE, MOST_NOISE = 0.01, 0.5
"""Bounds of the assumed noise. Posteriors assume at least 1% flipped labels, or no pair could be suspected; above one
half, the labels as a whole would be inverted."""
MOST_POINTS = 1000
"""Margins of more pairs are averaged in groups of neighbours, which changes neither estimate noticeably."""
LEAST_EFFECT, MOST_EFFECT = 0.03, 100.0
"""Bounds of the scales that are tried: the log-odds of the largest margin at the smallest scale, and of the median
margin at the largest scale."""
SMALLEST = 1e-12
"""Margins below this are rounding, whatever their ratios."""
COARSE, FINE = 36, 41
"""Scales of the first and of the second search."""
STEPS = 30
TIE = 1e-9
"""Relative difference of log-likelihoods that is rounding."""
LIKELY = 1.920729
"""Half the 95% quantile of χ² with one degree of freedom: how far the log-likelihood falls within the interval, and how
far it has to rise for the difference in length to count."""
NOISES = np.concatenate([np.arange(0.0, 0.1, 0.005), np.arange(0.1, 0.501, 0.02)])
"""The ε at which the profile likelihood is computed."""
NEWTON_STEPS, SETTLED, RIDGE = 15, 1e-6, 1e-9


@dataclass(frozen=True, slots=True)
class NoiseFit:
    """The flipped labels, scale of margins and effect of length that explain the labels best; nan without pairs."""

    noise: float
    """Maximum likelihood estimate of ε; 0 to 0.5."""
    low: float
    high: float
    """Its 95% interval, by the profile likelihood."""
    scale: float
    """s: what corrected margins have to be multiplied by to be the log-odds of a right label."""
    per_token: float
    """b: what a token of n_w − n_l adds to the margin to correct it for length, in beta·nats; 0 unless that explains
    the labels better than chance."""

    @property
    def assumed(self) -> float:
        """ε used for the posteriors."""
        return max(self.noise, LEAST_NOISE) if math.isfinite(self.noise) else math.nan

    @property
    def threshold(self) -> float:
        """Corrected margin below which a pair is more likely flipped than not, in beta·nats."""
        return (math.log(self.assumed) - math.log1p(-self.assumed)) / self.scale

    def posteriors(self, margins: Values, longer: Values | None = None) -> Values:
        """Return the probability that each label is flipped; nan where the margin is."""
        if not math.isfinite(self.assumed):
            return np.full(margins.shape, np.nan)
        return flip_posteriors(_corrected(margins, longer, self.per_token), self.assumed, self.scale)


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


def fit_noise(margins: Values, longer: Values | None = None) -> NoiseFit:
    """Return the maximum likelihood estimate of the share ε of flipped labels, with a scale and an effect of length.

    Definition: argmax of Σ log((1 − ε)·σ(z) + ε·σ(−z)) with z = s·(m + b·(n_w − n_l)). A lightly trained policy has
    small margins that rank pairs well, so their size cannot be read as log-odds: s is fitted along with ε. A policy
    that rewards length more or less than the labels do ranks pairs wrong whose labels are right: b corrects for that.
    It is the ratio of the coefficients of a logistic regression of the labels on m and n_w − n_l, since flipped labels
    shrink both alike (Ruud 1983); 0 unless it raises the log-likelihood by 1.92, which is beyond chance.

    The likelihood is concave in ε for every s; it is maximised by bisection for each of many s, first coarsely, then
    around the best one. The interval holds every ε for which some s makes the labels nearly as likely (profile
    likelihood). `tests/benchmarks/power.py` has the errors and the coverage on planted flips.

    Args:
        margins: m, in beta·nats; only finite values. Shape (pairs,).
        longer: n_w − n_l, in tokens; a pair with nan (unknown) is not corrected. None: no pair is.

    References:
        Ruud 1983, "Sufficient conditions for the consistency of maximum likelihood estimation despite misspecification
        of distribution", Econometrica 51.

    >>> round(fit_noise(np.array([20.0, 25.0, 40.0, -30.0])).noise, 2)
    0.25
    """
    if margins.size == 0:
        return NoiseFit(math.nan, math.nan, math.nan, math.nan, 0.0)
    plain = _Search(margins)
    per_token = 0.0 if longer is None else _per_token(margins, longer)
    corrected = _Search(_corrected(margins, longer, per_token)) if per_token else plain
    if corrected.likelihood < plain.likelihood + LIKELY:
        per_token, corrected = 0.0, plain
    low, high = corrected.interval()
    return NoiseFit(corrected.noise, low, high, corrected.scale, per_token)


def suspicion(margins: Values, longer: Values | None = None) -> Values:
    """Return each pair's posterior of a flip under the fit to all finite margins; nan where the margin is."""
    finite = np.isfinite(margins)
    fit = fit_noise(margins[finite], None if longer is None else longer[finite])
    return fit.posteriors(margins, longer)


def _corrected(margins: Values, longer: Values | None, per_token: float) -> Values:
    """Return m + b·(n_w − n_l); an unknown difference counts as 0."""
    return margins if longer is None or not per_token else margins + per_token * np.nan_to_num(longer)


def _per_token(margins: Values, longer: Values) -> float:
    """Return the ratio of the coefficients of length and margin in a logistic regression of the labels.

    There is no intercept, since exchanging the responses negates both. The ratio is 0 if one of the two is 0 for every
    pair, or if margins count against their labels at equal length.
    """
    known = np.nan_to_num(longer)
    sizes = math.sqrt(float(margins @ margins)), math.sqrt(float(known @ known))
    if min(sizes) < SMALLEST:
        return 0.0
    x = np.stack([margins / sizes[0], known / sizes[1]]) * math.sqrt(margins.size)
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        wrong = sigmoid(-np.clip(weights @ x, -500.0, 500.0))
        spread = (x * (wrong * (1.0 - wrong))) @ x.T + RIDGE * np.eye(2)
        step = np.linalg.solve(spread, x @ wrong)
        weights = weights + step
        if np.abs(step).max() <= SETTLED * np.abs(weights).max():
            break
    if not np.isfinite(weights).all() or weights[0] <= 0:
        return 0.0
    return float(weights[1] / weights[0] * (sizes[0] / sizes[1]))


class _Search:
    """The search for ε and s for some margins."""

    def __init__(self, margins: Values) -> None:
        self._points, self._weights = _condensed(margins)
        sizes = np.maximum(np.abs(self._points[self._points != 0]), SMALLEST)
        largest, median = (float(sizes.max()), float(np.median(sizes))) if sizes.size else (1.0, 1.0)
        self._coarse = np.geomspace(LEAST_EFFECT / largest, MOST_EFFECT / median, COARSE)
        near = self._coarse[_best(self._best_noise(self._coarse)[1])]
        self._fine = np.clip(near * np.logspace(-0.3, 0.3, FINE), self._coarse[0], self._coarse[-1])
        noises, likelihoods = self._best_noise(self._fine)
        at = _best(likelihoods)
        self.noise, self.scale, self.likelihood = float(noises[at]), float(self._fine[at]), float(likelihoods[at])

    def _right(self, scales: Values) -> Values:
        """Return σ(s·m). Shape (scales, points)."""
        with np.errstate(over="ignore"):
            found: Values = sigmoid(np.clip(scales[:, None] * self._points, -700.0, 700.0))
        return found

    def _best_noise(self, scales: Values) -> tuple[Values, Values]:
        """Return the best ε for each scale, and its log-likelihood. Shape (scales,) each."""
        right = self._right(scales)
        change = 1.0 - 2.0 * right
        low, high = np.zeros(len(scales)), np.full(len(scales), MOST_NOISE)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            starts_down = (change / right) @ self._weights <= 0
            for _ in range(STEPS):
                middle = (low + high) / 2
                rises = (change / (right + middle[:, None] * change)) @ self._weights > 0
                low, high = np.where(rises, middle, low), np.where(rises, high, middle)
            noises = np.where(starts_down, 0.0, np.where(high == MOST_NOISE, high, (low + high) / 2))
            likelihoods: Values = np.log(right + noises[:, None] * change) @ self._weights
        return noises, likelihoods

    def interval(self) -> tuple[float, float]:
        """Return the lowest and highest ε that are nearly as likely as the best one with some scale, of those tried."""
        right = self._right(np.concatenate([self._coarse, self._fine]))
        change = 1.0 - 2.0 * right
        with np.errstate(divide="ignore"):
            profile = np.array([(np.log(right + noise * change) @ self._weights).max() for noise in NOISES])
        least = self.likelihood - LIKELY
        below, above = self.noise > NOISES, self.noise < NOISES
        low = _crossing(NOISES[below][::-1], profile[below][::-1], least, (self.noise, self.likelihood))
        high = _crossing(NOISES[above], profile[above], least, (self.noise, self.likelihood))
        return low, high


def _crossing(noises: Values, profile: Values, least: float, best: tuple[float, float]) -> float:
    """Return the ε, going away from the best one, where the log-likelihood falls below `least`; else the last one."""
    near, likelihood = best
    for noise, value in zip(map(float, noises), map(float, profile), strict=True):
        if value < least:
            share = (likelihood - least) / (likelihood - value) if math.isfinite(value) else 0.0
            return near + share * (noise - near)
        near, likelihood = noise, value
    return near


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
