"""Confidence intervals and tests for shares and means.

This module does not import any other module of the project.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054
"""Quantile of the standard normal distribution for a two-sided 95% interval."""
LEVEL = 0.95
OF_RANKS = 1.06
"""`spread` of `correlation_bounds` for Spearman's ρ."""
NEGLIGIBLE = 1e-18
"""Share of a sum below which further terms change nothing."""
LEAST_RESAMPLES, MOST_RESAMPLES = 200, 2000
DRAWS, DRAWS_AT_ONCE = 40_000_000, 1_000_000
"""Random draws of a bootstrap: in total, and at the same time."""


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a share; a tie may count as half a success.

    References:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22.

    >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    if trials == 0:
        return math.nan, math.nan
    share, z2 = successes / trials, Z_95**2
    centre = share + z2 / (2 * trials)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return (centre - half) / (1 + z2 / trials), (centre + half) / (1 + z2 / trials)


def mean_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the mean and its 95% Student's t interval, whose bounds are nan for fewer than two values.

    Definition: mean ± t · sd / √n with n − 1 degrees of freedom.

    References:
        Student 1908, "The probable error of a mean", Biometrika 6.

    >>> [round(bound, 3) for bound in mean_interval(np.array([1.0, 2.0, 3.0]))]
    [2.0, -0.484, 4.484]
    """
    if values.size == 0:
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    if values.size == 1:
        return mean, math.nan, math.nan
    half = student_95(values.size - 1) * float(values.std(ddof=1)) / math.sqrt(values.size)
    return mean, mean - half, mean + half


def normal_bounds(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of a mean, mean ± 1.96 · sd / √n; nan for fewer than two values."""
    if values.size < 2:  # noqa: PLR2004 (a spread takes two)
        return math.nan, math.nan
    mean, half = float(values.mean()), Z_95 * float(values.std(ddof=1)) / math.sqrt(values.size)
    return mean - half, mean + half


def bootstrap_bounds(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% interval of a mean by a percentile bootstrap with a fixed seed; nan for fewer than two values.

    It draws 2,000 samples with replacement; for large arrays fewer, but at least 200.

    References:
        Efron 1979, "Bootstrap methods: another look at the jackknife", Annals of Statistics 7.

    >>> import numpy as np
    >>> bootstrap_bounds(np.array([1.0, 1.0, 1.0]))
    (1.0, 1.0)
    """
    size = values.size
    if size < 2:  # noqa: PLR2004 (a spread takes two)
        return math.nan, math.nan
    generator = np.random.default_rng(0)
    resamples = min(MOST_RESAMPLES, max(LEAST_RESAMPLES, DRAWS // size))
    at_once = max(DRAWS_AT_ONCE // size, 1)
    means = [
        values[generator.integers(size, size=(min(at_once, resamples - start), size))].mean(axis=1)
        for start in range(0, resamples, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def student_95(freedom: int) -> float:
    """Return the two-sided 95% quantile of Student's t: exact for 1 and 2 degrees of freedom, else to about 0.001.

    References:
        Fisher and Cornish 1960, "The percentile points of distributions having known cumulants", Technometrics 2.

    >>> [round(student_95(freedom), 2) for freedom in (1, 2, 3, 10, 1000)]
    [12.71, 4.3, 3.18, 2.23, 1.96]
    """
    if freedom == 1:
        return math.tan(math.pi * LEVEL / 2)
    if freedom == 2:  # noqa: PLR2004 (its quantile function has a closed form, too)
        return LEVEL * math.sqrt(2 / (1 - LEVEL**2))
    z, n = Z_95, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )


def correlation_bounds(correlation: float, pairs: int, spread: float = 1.0) -> tuple[float, float]:
    """Return the 95% interval of a correlation by Fisher's transformation; nan for fewer than four pairs.

    Args:
        correlation: Pearson's r, or Spearman's ρ.
        pairs: Number of pairs of values.
        spread: Variance of the transformed value times pairs − 3: 1 for r, `OF_RANKS` for ρ.

    References:
        Fisher 1915, "Frequency distribution of the values of the correlation coefficient", Biometrika 10; Fieller,
        Hartley and Pearson 1957, "Tests for rank correlation coefficients", Biometrika 44, for ρ.

    >>> [round(bound, 3) for bound in correlation_bounds(0.5, 28)]
    [0.156, 0.736]
    """
    if pairs < 4 or not abs(correlation) <= 1:  # noqa: PLR2004 (the variance is 1/(n − 3))
        return math.nan, math.nan
    if abs(correlation) == 1:
        return correlation, correlation
    centre, half = math.atanh(correlation), Z_95 * math.sqrt(spread / (pairs - 3))
    return math.tanh(centre - half), math.tanh(centre + half)


def paired_shares_bounds(both: int, only_b: int, only_a: int, neither: int) -> tuple[float, float]:
    """Return the 95% interval of the difference b − a of two shares over the same pairs; nan without pairs.

    It combines the Wilson intervals of both shares with their correlation, so it lies within −1 and 1, and is not empty
    if no pair differs.

    References:
        Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
        data", Statistics in Medicine 17, method 10.

    >>> [round(bound, 4) for bound in paired_shares_bounds(36, 12, 2, 0)]
    [0.0569, 0.3404]
    """
    total = both + only_b + only_a + neither
    if not total:
        return math.nan, math.nan
    a, b = (both + only_a) / total, (both + only_b) / total
    (a_low, a_high), (b_low, b_high) = wilson_interval(both + only_a, total), wilson_interval(both + only_b, total)
    product = (both + only_b) * (only_a + neither) * (both + only_a) * (only_b + neither)
    excess: float = both * neither - only_a * only_b
    excess = max(excess - total / 2, 0.0) if excess > 0 else excess
    phi = excess / math.sqrt(product) if product else 0.0

    def reach(of_b: float, of_a: float) -> float:
        return math.sqrt(max(of_b**2 - 2 * phi * of_b * of_a + of_a**2, 0.0))

    return b - a - reach(b - b_low, a_high - a), b - a + reach(b_high - b, a - a_low)


def mcnemar(only_a: int, only_b: int) -> float:
    """Return the two-sided p-value of McNemar's exact test: the probability of so uneven a split if both are equal.

    Only the pairs that exactly one run ranks right count: under the null hypothesis, each is a fair coin toss.

    References:
        McNemar 1947, "Note on the sampling error of the difference between correlated proportions or percentages",
        Psychometrika 12; exact with the binomial distribution.

    >>> round(mcnemar(1, 5), 5), mcnemar(0, 0)
    (0.21875, 1.0)
    """
    total = only_a + only_b
    steps = np.arange(1, min(only_a, only_b) + 1)
    logs = np.cumsum(np.append(-total * math.log(2), np.log((total - steps + 1) / steps)))
    return min(1.0, 2 * float(np.exp(logs).sum()))


def upper_tail(successes: int, trials: int, share: float) -> float:
    """Return the probability that a binomial count is at least `successes`.

    For independent trials with different probabilities of mean `share`, this is an upper bound, provided that
    `successes` is at least one more than the expected number.

    References:
        Hoeffding 1956, "On the distribution of the number of successes in independent trials", theorem 4.

    >>> round(upper_tail(9, 10, 0.5) * 1024, 6)
    11.0
    """
    if successes <= 0:
        return 1.0
    if not 0 < share < 1:
        return float(share >= 1)
    odds = share / (1 - share)
    largest = math.lgamma(trials + 1) - math.lgamma(successes + 1) - math.lgamma(trials - successes + 1)
    term = math.exp(largest + successes * math.log(share) + (trials - successes) * math.log1p(-share))
    total = term
    for count in range(successes, trials):
        term *= odds * (trials - count) / (count + 1)
        total += term
        if term < total * NEGLIGIBLE:  # past the mode, where terms shrink
            break
    return min(total, 1.0)
