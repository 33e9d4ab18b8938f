"""Calibration: whether the size of margins matches their accuracy, and the beta at which it fits best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefscope.preference.arrays import sigmoid
from prefscope.preference.diagnostics.diagnostic import CHANCE, NOTHING, Conclusion, Diagnostic, Values
from prefscope.statistics import wilson_interval

BINS = 10
CLEAR = 0.05
"""Calibration error from which a warning is shown."""
STEPS = 200
DRAWS = 2000
"""Simulations of calibrated margins."""
LARGEST = 1e12
"""Limit of beta times the mean |h|; a best fit beyond it counts as infinite."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """A bin of pairs by confidence σ(|m|)."""

    low: float
    high: float
    """Bounds of σ(|m|); the upper bound is exclusive, except for 1."""
    pairs: int
    """Number of pairs, without ties."""
    confidence: float
    """Mean σ(|m|)."""
    accuracy: float
    """Share of m > 0."""
    accuracy_low: float
    accuracy_high: float
    """95% Wilson interval."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence σ(|m|) compared with accuracy, the share of margins with the right sign."""

    pairs: int
    """Number of pairs, including ties."""
    ties: int
    """Pairs with margin 0, which predict nothing and are excluded."""
    beta: float
    """β of the margins."""
    error: float
    """ECE = Σ_b (n_b/N)·|accuracy_b − confidence_b| over the bins; nan if all pairs are ties."""
    chance: float
    """ECE that calibrated margins with these confidences exceed in 2.5% of the cases, by 2,000 simulations."""
    confidence: float
    """Mean σ(|m|), without ties."""
    accuracy: float
    """Share of m > 0, without ties."""
    best_beta: float
    """Beta that minimises the mean of −log σ(βh); inf if no pair is wrong, nan if all pairs are ties."""
    bins: tuple[ReliabilityBin, ...]
    """The non-empty ones of ten bins of equal width in [½, 1]."""

    def conclude(self) -> Conclusion:
        """Conclude whether margins are too small or too large."""
        if not self.pairs:
            return NOTHING
        if self.pairs == self.ties:
            return Conclusion("every pair a tie", "Policy and reference are the same: nothing to calibrate")
        figure = f"ECE {self.error:.3f}, best beta {self.best_beta:.3g}".replace("best beta inf", "no finite best beta")
        detail = f"confidence {self.confidence:.0%}, accuracy {self.accuracy:.0%}"
        if self.error < CLEAR:
            return Conclusion(figure, f"Margins are well calibrated ({detail})")
        if self.error <= self.chance:
            return Conclusion(
                figure, f"No more than calibrated margins give by chance, up to {self.chance:.2f} ({detail})"
            )
        return Conclusion(figure, f"{self._direction()} ({detail})", warns=True)

    def _direction(self) -> str:
        """Describe whether margins are too small or too large; confident mistakes weigh most in the fit of beta."""
        modest = self.confidence < self.accuracy
        if math.isinf(self.best_beta):
            return "Margins are too small: no pair is wrong, so any larger beta fits the labels better"
        if self.best_beta == 0:
            return "Margins point away from the labels: no positive beta fits"
        if modest and self.best_beta < self.beta:
            return "Most margins are too small, and the wrong ones are too large: no beta fixes both"
        if modest == (self.best_beta > self.beta):
            size, how = ("small", "larger") if modest else ("large", "smaller")
            return f"Margins are too {size} for their accuracy: a {how} beta fits the labels better"
        return "Margins are off both ways: confident when wrong, unsure when right"


def best_beta(gaps: Values) -> float:
    """Return the beta ≥ 0 that fits the labels best, minimising the mean of −log σ(β·h) over the pairs.

    The result is inf if no gap is negative (the labels are separable), 0 if the mean gap is not positive, and nan if
    all gaps are 0. The function is convex in beta, so the root of its derivative, −mean h·σ(−βh), is found by Newton's
    method within a bracket; σ is computed without overflow.

    Args:
        gaps: h = a − c, in nats; only finite values. Shape (pairs,).

    >>> round(best_beta(np.array([1.0, 1.0, 1.0, -1.0])), 6)  # σ(β) = 3/4
    1.098612
    """
    h = gaps[gaps != 0]
    if h.size == 0:
        return math.nan
    if h.min() > 0:
        return math.inf
    if h.mean() <= 0:
        return 0.0
    scale = float(np.abs(h).mean())
    h = h / scale
    low, high = 0.0, 1.0
    while _slope(h, high)[0] < 0:
        low, high = high, 2 * high
        if high > LARGEST:
            return math.inf
    beta = (low + high) / 2
    for _ in range(STEPS):
        slope, curvature = _slope(h, beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = beta - slope / curvature if curvature > 0 else math.nan
        previous, beta = beta, step if low < step < high else (low + high) / 2
        if abs(beta - previous) <= 1e-12 * beta:
            break
    return beta / scale


def _slope(h: Values, beta: float) -> tuple[float, float]:
    """Return the first and second derivative of the mean of −log σ(β·h)."""
    wrong = sigmoid(-beta * h)
    return -float((h * wrong).mean()), float((h * h * wrong * (1 - wrong)).mean())


def calibration(margins: Values, beta: float = 0.1) -> Calibration:
    """Compare confidence σ(|m|) with the share of margins above 0, and fit the best beta.

    Definition: ECE = Σ_b (n_b/N)·|accuracy_b − confidence_b| over ten bins of equal width in [½, 1].

    Args:
        margins: m = β·h, in beta·nats; only finite values. Shape (pairs,).
        beta: β.

    References:
        Derived: the probability of the Bradley-Terry model that DPO fits.
    """
    m = margins[margins != 0]
    confidences, hits = sigmoid(np.abs(m)), m > 0
    of_pair = np.minimum((2 * BINS * (confidences - 0.5)).astype(np.int64), BINS - 1)
    bins = []
    for index in np.unique(of_pair):
        part = of_pair == index
        size, right = int(np.count_nonzero(part)), int(np.count_nonzero(hits[part]))
        low, high = 0.5 + float(index) / (2 * BINS), 0.5 + float(index + 1) / (2 * BINS)
        confidence, bounds = float(confidences[part].mean()), wilson_interval(right, size)
        bins.append(ReliabilityBin(low, high, size, confidence, right / size, *bounds))
    return Calibration(
        pairs=margins.size,
        ties=margins.size - m.size,
        beta=beta,
        error=sum(one.pairs * abs(one.accuracy - one.confidence) for one in bins) / m.size if m.size else math.nan,
        chance=_chance(bins),
        confidence=float(confidences.mean()) if m.size else math.nan,
        accuracy=float(hits.mean()) if m.size else math.nan,
        best_beta=best_beta(margins / beta),
        bins=tuple(bins),
    )


def _chance(bins: Sequence[ReliabilityBin]) -> float:
    """Return the 97.5th percentile of the ECE if every pair is right with its confidence; nan without pairs.

    References:
        Bröcker and Smith 2007, "Increasing the reliability of reliability diagrams", Weather and Forecasting 22.
    """
    if not bins:
        return math.nan
    sizes, confidences = np.array([one.pairs for one in bins]), np.array([one.confidence for one in bins])
    right = np.random.default_rng(0).binomial(sizes, confidences, (DRAWS, len(bins)))
    errors = np.abs(right - sizes * confidences).sum(axis=1) / sizes.sum()
    return float(np.quantile(errors, 1 - CHANCE))


CALIBRATION = Diagnostic(
    name="calibration",
    title="Calibration",
    formula="confidence σ(|m|), hit 1[m > 0]; ECE over ten bins; best beta = argmin mean −log σ(β·h)",
    source="derived: the probability of the Bradley-Terry model that DPO fits",
    rule=(
        f"a warning if ECE ≥ {CLEAR:g} and beyond the 97.5th percentile of calibrated margins (Bröcker, Smith 2007); "
        "ties predict nothing and are excluded"
    ),
    basis=(
        '0.05 is a convention; Bröcker and Smith 2007, Weather and Forecasting 22, for chance; simulations "small '
        'margins" and "large margins"'
    ),
    measure=calibration,
)
