"""Length bias: how much of the margin follows the difference in length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values
from prefscope.statistics import wilson_interval

BINS = 5
CLEAR = 0.3
"""From this correlation on, length alone tells about a tenth of the margins' variance."""


@dataclass(frozen=True, slots=True)
class LengthBin:
    """The pairs whose difference in length is within some bounds, both inclusive, in tokens."""

    low: float
    high: float
    """Least and greatest n_w − n_l."""
    pairs: int
    """In the bin."""
    accuracy: float
    """Share of m > 0."""
    accuracy_low: float
    accuracy_high: float
    """Wilson's 95% interval."""


@dataclass(frozen=True, slots=True)
class LengthBias:
    """How margins go with n_w − n_l, the tokens that chosen is longer by."""

    pairs: int
    """Those whose counts are known."""
    slope: float
    """Beta·nats a token; nan where all differences are the same."""
    correlation: float
    """Pearson's r of m and n_w − n_l; nan where one of the two never changes."""
    longer: float
    """Share of the pairs whose chosen response is the longer one: a length-only rule ranks these right."""
    accuracy: float
    """Share of m > 0."""
    residual_accuracy: float
    """Share of residual margins above 0: what would be ranked right were both responses of the same length."""
    bins: tuple[LengthBin, ...]
    """Five of about equal size by n_w − n_l; equal differences are in one."""

    def conclude(self) -> Conclusion:
        """Return whether length tells the margin."""
        if not self.pairs:
            return NOTHING
        if math.isnan(self.correlation):
            return Conclusion("no difference in length", "Lengths or margins are all the same: nothing to tell")
        figure = f"r {self.correlation:+.2f}, {100 * self.slope:+.3f} per 100 tokens"
        at_par = f"at equal length {self.residual_accuracy:.0%} right, not {self.accuracy:.0%}"
        if abs(self.correlation) < CLEAR:
            return Conclusion(figure, f"Length explains {self.correlation**2:.0%} of the margins: {at_par}")
        longer = "longer" if self.slope > 0 else "shorter"
        told = f"The {longer} response gets the reward ({self.correlation**2:.0%} of the variance): {at_par}"
        return Conclusion(figure, told, warns=True)


def length_slope(margins: Values, chosen_num_tokens: Values, rejected_num_tokens: Values) -> tuple[float, float]:
    """Return slope (beta·nats a token) and intercept of margins on n_w − n_l by least squares, over finite pairs.

    The slope is nan without two pairs that differ in n_w − n_l.

    >>> length_slope(np.array([1.0, 2.0, 3.0]), np.array([10.0, 20.0, 30.0]), np.zeros(3))
    (0.1, 0.0)
    """
    longer = chosen_num_tokens - rejected_num_tokens
    finite = np.isfinite(margins) & np.isfinite(longer)
    x, y = longer[finite], margins[finite]
    if x.size == 0:
        return math.nan, math.nan
    about = x - x.mean()
    square = float(about @ about)
    slope = float(about @ (y - y.mean())) / square if square else math.nan
    return slope, float(y.mean()) - (slope * float(x.mean()) if square else 0.0)


def residual_margins(margins: Values, chosen_num_tokens: Values, rejected_num_tokens: Values) -> Values:
    """Return each margin less what its difference in length predicts: m − slope·(n_w − n_l), in beta·nats.

    The intercept stays, so that it is the margin the pair would have were its responses equally long. Without a slope
    it is the margin.
    """
    slope, _ = length_slope(margins, chosen_num_tokens, rejected_num_tokens)
    if math.isnan(slope):
        return margins
    return margins - slope * (chosen_num_tokens - rejected_num_tokens)


def length_bias(margins: Values, chosen_num_tokens: Values, rejected_num_tokens: Values) -> LengthBias:
    """Return how margins go with the difference in length: slope, correlation, accuracy in five bins of equal size.

    Args:
        margins: m, in beta·nats; only finite values. Shape (pairs,).
        chosen_num_tokens: n_w, scored tokens; nan where unknown, and left out.
        rejected_num_tokens: n_l, the same.

    References:
        Park et al. 2024 (R-DPO), arXiv 2403.19159; LD-DPO, arXiv 2409.06411.
    """
    known = np.isfinite(chosen_num_tokens) & np.isfinite(rejected_num_tokens)
    m, chosen, rejected = margins[known], chosen_num_tokens[known], rejected_num_tokens[known]
    longer = chosen - rejected
    slope, _ = length_slope(m, chosen, rejected)
    return LengthBias(
        pairs=m.size,
        slope=slope,
        correlation=_correlation(m, longer),
        longer=_share(longer > 0),
        accuracy=_share(m > 0),
        residual_accuracy=_share(residual_margins(m, chosen, rejected) > 0),
        bins=_bins(m, longer),
    )


def _bins(margins: Values, longer: Values) -> tuple[LengthBin, ...]:
    """Return the accuracy in bins of about equal size; equal differences are in one bin."""
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
    """Return Pearson's r, nan where one of the two never changes."""
    if x.size == 0:
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / size, -1.0, 1.0)) if size else math.nan


def _share(truths: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    return float(np.mean(truths)) if truths.size else math.nan


LENGTH_BIAS = Diagnostic(
    name="length_bias",
    title="Length bias",
    formula="m = slope·(n_w − n_l) + intercept by least squares; residual margin m − slope·(n_w − n_l)",
    source="Park et al. 2024 (R-DPO), arXiv 2403.19159; LD-DPO, arXiv 2409.06411",
    rule=f"a warning from |r| = {CLEAR:g} on",
    measure=length_bias,
)
