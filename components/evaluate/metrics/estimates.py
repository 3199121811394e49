"""Numbers with what they are worth: shares, medians and means with 95 % intervals.

Float64 arrays in, `Estimate`s out. `n` counts generated and `m` real images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from components.artifacts import Estimate

#: 97.5 % quantile of the standard normal distribution.
_Z = 1.959963984540054


def median(values: np.ndarray, m: int) -> Estimate:
    """Median with the distribution-free interval of order statistics; none below 6 values.

    Conover 1999, "Practical Nonparametric Statistics", §3.2, by the normal approximation, outwards.
    """
    ordered, n = np.sort(values), len(values)
    rank = math.floor(n / 2 - _Z * math.sqrt(n) / 2)
    if n < 6:
        return Estimate(float(np.median(values)), n=n, m=m)
    low, high = ordered[max(rank - 1, 0)], ordered[min(n - rank, n - 1)]
    return Estimate(float(np.median(values)), float(low), float(high), n, m)


def proportion(hits: int, n: int, m: int) -> Estimate:
    """A share with Wilson's score interval (Wilson 1927, "Probable Inference").

    Args:
        hits: of `n` generated images.
        m: real images that the question rests on.
    """
    share, z2 = hits / n, _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At 0 and n hits the bound is the share itself, which rounding may miss.
    return Estimate(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)), n, m)


def mean(values: np.ndarray, m: int | None = None) -> Estimate:
    """Mean of one value an image, with Student's t interval; none below 2 values."""
    n = len(values)
    if n < 2:
        return Estimate(float(values.mean()), n=n, m=m)
    half = student(n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    value = float(values.mean())
    return Estimate(value, value - half, value + half, n, m)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, one a class; `n` and `m` are their totals.

    The interval is the square-and-add one of Zou & Donner 2008, "Construction of Confidence Limits
    About Effect Measures"; for symmetric intervals that is √(Σ half²) / K.
    """
    count = len(estimates)
    value = sum(e.value for e in estimates) / count
    n, m = sum(e.n or 0 for e in estimates), sum(e.m or 0 for e in estimates)
    if any(e.low is None or e.high is None for e in estimates):
        return Estimate(value, n=n, m=m)
    below = math.sqrt(sum((e.value - e.low) ** 2 for e in estimates if e.low is not None)) / count
    above = math.sqrt(sum((e.high - e.value) ** 2 for e in estimates if e.high is not None)) / count
    return Estimate(value, value - below, value + above, n, m)


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t (Abramowitz & Stegun 1964, 26.7.5); within 1 % from 3 on."""
    z = _Z
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
