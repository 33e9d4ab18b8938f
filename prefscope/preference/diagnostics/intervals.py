"""95% bounds of shares and of means."""

from __future__ import annotations

import math

from prefscope.preference.diagnostics.diagnostic import Values

Z_95 = 1.959963984540054
LEVEL = 0.95


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95% score interval of a share; nan without a trial.

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


def mean_interval(values: Values) -> tuple[float, float, float]:
    """Return the mean and the bounds of its 95% interval by Student's t; the bounds are nan of fewer than two values.

    Definition: mean ± t · sd / √n with n − 1 degrees of freedom.

    References:
        Student 1908, "The probable error of a mean", Biometrika 6.

    >>> import numpy as np
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


def student_95(freedom: int) -> float:
    """Return the two-sided 95% point of Student's t: exact for 1 and 2 degrees of freedom, else to about a thousandth.

    References:
        Fisher and Cornish 1960, "The percentile points of distributions having known cumulants", Technometrics 2.

    >>> [round(student_95(freedom), 2) for freedom in (1, 2, 3, 10, 1000)]
    [12.71, 4.3, 3.18, 2.23, 1.96]
    """
    if freedom == 1:
        return math.tan(math.pi * LEVEL / 2)
    if freedom == 2:  # noqa: PLR2004 (its distribution function has an inverse, too)
        return LEVEL * math.sqrt(2 / (1 - LEVEL**2))
    z, n = Z_95, freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )
