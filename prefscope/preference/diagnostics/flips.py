"""Flipped labels: the probability that a pair's label is wrong, as estimated from the policy's margins."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefscope.preference.diagnostics.diagnostic import NOTHING, Conclusion, Diagnostic, Values
from prefscope.preference.diagnostics.label_noise import LEAST_NOISE, fit_noise

SUSPECT = 0.5
WORTH_A_WARNING = 0.05


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
    """s: what margins, corrected for length, have to be multiplied by to be the log-odds of a right label."""
    per_token: float
    """b: what a token of n_w − n_l adds to the margin to correct it for length, in beta·nats; 0 unless that explains
    the labels better than chance."""
    assumed: float
    """ε used for the posteriors: the estimate, but at least 0.01."""
    suspects: int
    """Pairs with a posterior above one half."""
    threshold: float
    """Upper bound of their margins, corrected for length, in beta·nats."""

    def conclude(self) -> Conclusion:
        """Conclude whether labels look flipped."""
        if not self.pairs:
            return NOTHING
        figure = f"noise {self.noise:.1%} ({self._bounds()}), {self.suspects:,} suspects"
        warns = self.noise > WORTH_A_WARNING and self.low > 0
        below = f"below {self.threshold:.2g}{' at equal length' if self.per_token else ''}"
        if warns:
            sentence = f"Read pairs with margins {below} first: the label or the policy is wrong"
        elif self.suspects:
            sentence = f"Margins explain most labels; still read the {self.suspects:,} {below}"
        elif self.high > WORTH_A_WARNING:
            sentence = f"No pair stands out, but up to {self.high:.0%} flipped labels fit these margins as well"
        else:
            sentence = "No pair is wrong by enough to suspect its label"
        return Conclusion(figure, sentence, warns=warns)

    def _bounds(self) -> str:
        return f"{100 * self.low:.0f}–{100 * self.high:.0f}"


def flips(margins: Values, chosen_num_tokens: Values, rejected_num_tokens: Values) -> Flips:
    """Estimate the label noise, and count the pairs that are more likely flipped than not.

    Args:
        margins: m, in beta·nats; only finite values. Shape (pairs,).
        chosen_num_tokens: n_w, scored tokens; nan if unknown, which leaves the pair's margin as it is.
        rejected_num_tokens: n_l, the same for the rejected response.
    """
    longer = chosen_num_tokens - rejected_num_tokens
    fit = fit_noise(margins, longer)
    if not margins.size:
        return Flips(0, fit.noise, fit.low, fit.high, fit.scale, 0.0, LEAST_NOISE, 0, math.nan)
    suspects = int(np.count_nonzero(fit.posteriors(margins, longer) > SUSPECT))
    return Flips(
        margins.size, fit.noise, fit.low, fit.high, fit.scale, fit.per_token, fit.assumed, suspects, fit.threshold
    )


FLIPS = Diagnostic(
    name="flips",
    title="Flipped labels",
    formula=(
        "ρ = ε·σ(−z)/(ε·σ(−z) + (1 − ε)·σ(z)) with z = s·(m + b·(n_w − n_l)); ε and s by maximum likelihood, "
        "ε at least 0.01; b by logistic regression, 0 unless it raises the log-likelihood by 1.92"
    ),
    source="noise model: rDPO, arXiv 2403.00409; the posterior is derived",
    rule=(
        f"a warning above ε = {WORTH_A_WARNING:g} if its interval excludes 0; a pair is suspected if ρ > {SUSPECT:g}; "
        "flipped pairs that the policy was trained on have large margins and cannot be found"
    ),
    basis=(
        'profile likelihood for the interval; simulation "flipped labels", and flips planted in simulated margins and '
        "in the ledgers of SmolLM2: rates, precision and recall"
    ),
    measure=flips,
    dispute=(
        "ROPO (arXiv 2404.04102) drops pairs of high loss as noise; arXiv 2508.04149 finds small gaps, the hard pairs, "
        "most worth training on; arXiv 2502.14560 the largest margins: read the pairs before dropping any"
    ),
)
