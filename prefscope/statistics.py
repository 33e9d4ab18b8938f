"""Bounds and tests of shares: how sure one may be of a count.

This module imports nothing of the project.
"""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""The standard normal's quantile of a 95% interval with two sides."""


def wilson_interval(successes: float, trials: int) -> tuple[float, float]:
    """Return the 95% score interval of a share; a tie may count as half a success.

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


def upper_tail(successes: int, trials: int, share: float) -> float:
    """Return the probability that a binomial count is at least `successes`.

    Of independent trials whose shares differ but have the mean `share` it is an upper bound, where `successes` is at
    least one more than their expected number.

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
    return min(total, 1.0)
