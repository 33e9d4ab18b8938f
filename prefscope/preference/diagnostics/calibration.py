"""Calibration: whether margins are as large as they are right, and the beta at which they would be."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefscope.preference.arrays import sigmoid
from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values
from prefscope.statistics import wilson_interval

BINS = 10
CLEAR = 0.05
"""A calibration error from which on a reader is warned."""
STEPS = 200
LARGEST = 1e12
"""Of beta times the mean |h|; a best fit beyond it is called infinite."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The pairs whose confidence σ(|m|) is within some bounds."""

    low: float
    high: float
    """Of σ(|m|); the upper one belongs to the next bin, but for 1."""
    pairs: int
    """Without ties."""
    confidence: float
    """Mean σ(|m|)."""
    accuracy: float
    """Share of m > 0."""
    accuracy_low: float
    accuracy_high: float
    """Wilson's 95% interval."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Confidence σ(|m|) against how often the sign of the margin is right."""

    pairs: int
    """All that were looked at, ties too."""
    ties: int
    """Pairs of margin 0, which predict nothing and are left out."""
    beta: float
    """β of the margins."""
    error: float
    """ECE = Σ_b (n_b/N)·|accuracy_b − confidence_b| over the bins; nan without a pair that is no tie."""
    confidence: float
    """Mean σ(|m|), without ties."""
    accuracy: float
    """Share of m > 0, without ties."""
    best_beta: float
    """Beta at which the mean of −log σ(βh) is least; inf where no pair is wrong, nan where no pair has a margin."""
    bins: tuple[ReliabilityBin, ...]
    """Ten of equal width in [½, 1], those without a pair left out."""

    def conclude(self) -> Conclusion:
        """Return whether margins are too small or too large."""
        if not self.pairs:
            return NOTHING
        if self.pairs == self.ties:
            return Conclusion("every pair a tie", "Policy and reference are the same: nothing to calibrate")
        figure = f"ECE {self.error:.3f}, best beta {self.best_beta:.3g}".replace("best beta inf", "no finite best beta")
        said = f"{self.confidence:.0%} sure, {self.accuracy:.0%} right"
        if self.error < CLEAR:
            return Conclusion(figure, f"Margins are about as large as they are right ({said})")
        return Conclusion(figure, f"{self._direction()} ({said})", warns=True)

    def _direction(self) -> str:
        """Return whether margins are too small or too large; the fit looks at sure mistakes most of all."""
        modest = self.confidence < self.accuracy
        if math.isinf(self.best_beta):
            return "Margins are too small: no pair is wrong, so every larger beta fits the labels better"
        if self.best_beta == 0:
            return "Margins point away from the labels: no positive beta fits"
        if modest and self.best_beta < self.beta:
            return "Most margins are too small, and the wrong ones are too large: no beta mends both"
        if modest == (self.best_beta > self.beta):
            size, how = ("small", "larger") if modest else ("large", "smaller")
            return f"Margins are too {size} for how often they are right: a {how} beta fits the labels better"
        return "Margins are off both ways: sure where wrong, unsure where right"


def best_beta(gaps: Values) -> float:
    """Return the beta ≥ 0 that fits the labels best: the least mean −log σ(β·h) over the pairs.

    inf where no gap is below 0 (the labels are separable), 0 where their mean is not above 0, nan where all are 0.
    The function is convex in beta, so its derivative, −mean h·σ(−βh), is brought to 0 by Newton's steps within a
    bracket; σ is taken so that it never overflows.

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
        former, beta = beta, step if low < step < high else (low + high) / 2
        if abs(beta - former) <= 1e-12 * beta:
            break
    return beta / scale


def _slope(h: Values, beta: float) -> tuple[float, float]:
    """Return the first and the second derivative of mean −log σ(β·h)."""
    wrong = sigmoid(-beta * h)
    return -float((h * wrong).mean()), float((h * h * wrong * (1 - wrong)).mean())


def calibration(margins: Values, beta: float = 0.1) -> Calibration:
    """Return how confidence σ(|m|) compares with how often the margin is above 0, and the best-fit beta.

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
        confidence=float(confidences.mean()) if m.size else math.nan,
        accuracy=float(hits.mean()) if m.size else math.nan,
        best_beta=best_beta(margins / beta),
        bins=tuple(bins),
    )


CALIBRATION = Diagnostic(
    name="calibration",
    title="Calibration",
    formula="confidence σ(|m|), hit 1[m > 0]; ECE over ten bins; best beta = argmin mean −log σ(β·h)",
    source="derived: the probability of the Bradley-Terry model that DPO fits",
    rule=f"a warning from ECE = {CLEAR:g} on; a tie predicts nothing and is left out",
    measure=calibration,
)
