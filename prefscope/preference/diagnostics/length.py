"""Length bias: how much of the margin follows the difference in length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values
from prefscope.statistics import correlation_bounds, wilson_interval

BINS = 5
CLEAR = 0.3
"""Correlation from which a warning is shown: length then explains about a tenth of the margins' variance."""


@dataclass(frozen=True, slots=True)
class LengthBin:
    """A bin of pairs by difference in length, in tokens, with inclusive bounds."""

    low: float
    high: float
    """Smallest and largest n_w − n_l."""
    pairs: int
    """Number of pairs in the bin."""
    accuracy: float
    """Share of m > 0."""
    accuracy_low: float
    accuracy_high: float
    """95% Wilson interval."""


@dataclass(frozen=True, slots=True)
class LengthBias:
    """How margins depend on n_w − n_l, the difference in length of chosen and rejected."""

    pairs: int
    """Number of pairs with known token counts."""
    slope: float
    """Slope in beta·nats per token; nan if all differences are the same."""
    correlation: float
    """Pearson's r of m and n_w − n_l; nan if one of the two is constant."""
    correlation_low: float
    correlation_high: float
    """Its 95% interval by Fisher's transformation; nan for fewer than four pairs."""
    longer: float
    """Share of the pairs whose chosen response is longer, which is the accuracy of a rule by length alone."""
    accuracy: float
    """Share of m > 0."""
    residual_accuracy: float
    """Share of residual margins above 0: the accuracy if both responses had the same length."""
    bins: tuple[LengthBin, ...]
    """Five bins of about equal size by n_w − n_l; equal differences are in the same bin."""

    def conclude(self) -> Conclusion:
        """Conclude whether length explains the margin."""
        if not self.pairs:
            return NOTHING
        if math.isnan(self.correlation):
            return Conclusion("no difference in length", "All lengths or all margins are the same")
        bounds = f" ({self.correlation_low:+.2f} to {self.correlation_high:+.2f})"
        figure = f"r {self.correlation:+.2f}{'' if math.isnan(self.correlation_low) else bounds}"
        at_par = f"at equal length, {self.residual_accuracy:.0%} right, not {self.accuracy:.0%}"
        per_token = f"{100 * self.slope:+.3f} per 100 tokens, {self.correlation**2:.0%} of the variance"
        if abs(self.correlation) < CLEAR:
            return Conclusion(figure, f"Length explains {self.correlation**2:.0%} of the variance: {at_par}")
        if not self.correlation_low * self.correlation_high > 0:
            return Conclusion(figure, f"Too few pairs to see a length bias ({per_token}): chance gives as much")
        longer = "longer" if self.slope > 0 else "shorter"
        return Conclusion(figure, f"The {longer} response is rewarded ({per_token}): {at_par}", warns=True)


def length_slope(margins: Values, chosen_num_tokens: Values, rejected_num_tokens: Values) -> tuple[float, float]:
    """Fit margins on n_w − n_l by least squares over finite pairs; return slope (beta·nats per token) and intercept.

    The slope is nan if all n_w − n_l are the same.

    >>> length_slope(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]), np.zeros(3))
    (0.1, 0.0)
    """
    longer = chosen_num_tokens - rejected_num_tokens
    finite = np.isfinite(margins) & np.isfinite(longer)
    x, y = longer[finite], margins[finite]
    if x.size == 0:
        return math.nan, math.nan
    about = x - x.mean()
    square = float((about * about).sum())
    slope = float((about * (y - y.mean())).sum()) / square if square else math.nan
    return slope, float(y.mean()) - (slope * float(x.mean()) if square else 0.0)


def residual_margins(margins: Values, chosen_num_tokens: Values, rejected_num_tokens: Values) -> Values:
    """Return each margin minus the part that its difference in length predicts: m − slope·(n_w − n_l), in beta·nats.

    The intercept is kept, so this is the margin that the pair would have if its responses were equally long. Without a
    slope, it is the margin itself.
    """
    slope, _ = length_slope(margins, chosen_num_tokens, rejected_num_tokens)
    if math.isnan(slope):
        return margins
    return margins - slope * (chosen_num_tokens - rejected_num_tokens)


def length_bias(margins: Values, chosen_num_tokens: Values, rejected_num_tokens: Values) -> LengthBias:
    """Measure how margins depend on the difference in length: slope, correlation, accuracy in five bins.

    Args:
        margins: m, in beta·nats; only finite values. Shape (pairs,).
        chosen_num_tokens: n_w, scored tokens; pairs with nan (unknown) are excluded.
        rejected_num_tokens: n_l, the same for the rejected response.

    References:
        Park et al. 2024 (R-DPO), arXiv 2403.19159; LD-DPO, arXiv 2409.06411.
    """
    known = np.isfinite(chosen_num_tokens) & np.isfinite(rejected_num_tokens)
    m, chosen, rejected = margins[known], chosen_num_tokens[known], rejected_num_tokens[known]
    longer = chosen - rejected
    slope, _ = length_slope(m, chosen, rejected)
    correlation = _correlation(m, longer)
    low, high = correlation_bounds(correlation, m.size)
    return LengthBias(
        pairs=m.size,
        slope=slope,
        correlation=correlation,
        correlation_low=low,
        correlation_high=high,
        longer=_share(longer > 0),
        accuracy=_share(m > 0),
        residual_accuracy=_share(residual_margins(m, chosen, rejected) > 0),
        bins=_bins(m, longer),
    )


def _bins(margins: Values, longer: Values) -> tuple[LengthBin, ...]:
    """Return the accuracy in bins of about equal size; equal differences are in the same bin."""
    if longer.size == 0:
        return ()
    ordered = np.sort(longer)
    inner = np.unique(ordered[(longer.size - 1) * np.arange(1, BINS) // BINS])
    of_pair = np.searchsorted(inner, longer, side="left")  # bin i ends with inner[i]
    sizes = np.bincount(of_pair, minlength=inner.size + 1).tolist()
    won = np.bincount(of_pair, weights=margins > 0, minlength=inner.size + 1).astype(np.int64).tolist()
    found, start = [], 0
    for size, wins in zip(sizes, won, strict=True):
        if size:
            low, high = float(ordered[start]), float(ordered[start + size - 1])
            found.append(LengthBin(low, high, size, wins / size, *wilson_interval(wins, size)))
        start += size
    return tuple(found)


def _correlation(x: Values, y: Values) -> float:
    """Return Pearson's r; nan if one of the arrays is constant."""
    if x.size == 0:
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float(np.clip((a * b).sum() / size, -1.0, 1.0)) if size else math.nan


def _share(truths: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return float(np.mean(truths)) if truths.size else math.nan


LENGTH_BIAS = Diagnostic(
    name="length_bias",
    title="Length bias",
    formula="m = slope·(n_w − n_l) + intercept by least squares; residual margin m − slope·(n_w − n_l)",
    source="Park et al. 2024 (R-DPO), arXiv 2403.19159; LD-DPO, arXiv 2409.06411",
    rule=f"a warning if |r| ≥ {CLEAR:g} and its 95% interval (Fisher 1915) excludes 0",
    basis='|r| = 0.3 is a tenth of the variance; Fisher 1915 for the interval; simulation "length bias"',
    measure=length_bias,
)
