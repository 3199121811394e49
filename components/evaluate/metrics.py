"""The metrics: features in, numbers out.

Pure numerics on float64 arrays of one row an image; images, models and files live elsewhere. Values
carry the number of generated (`n`) and real (`m`) images that they rest on and, where a valid one is
known for few images, a 95 % interval. The Fréchet distance has none: bootstrap intervals do not cover
its bias at small n, so it is to be read beside its real-against-real floor at the same n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from components.artifacts import Estimate

#: 97.5 % quantile of the standard normal distribution.
_Z = 1.959963984540054


def kernel_distance(generated: np.ndarray, real: np.ndarray) -> Estimate:
    """Kernel distance: the unbiased squared MMD with the kernel (x·y / d + 1)³.

    Bińkowski, Sutherland, Arbel & Gretton 2018, "Demystifying MMD GANs" (KID there, on Inception
    features); the U-statistic of Gretton et al. 2012, "A Kernel Two-Sample Test", eq. 3, over all
    images instead of subsets. Its expectation does not depend on n, and it may be negative. The interval
    is a two-sample jackknife's (Arvesen 1969, "Jackknifing U-Statistics"), with Student's t.

    Args:
        generated: float64 ``[n, d]``, n ≥ 3.
        real: float64 ``[m, d]``, m ≥ 3.
    """
    n, m, width = len(generated), len(real), generated.shape[1]
    if min(n, m) < 3:
        raise ValueError(f"a jackknife needs 3 images a side, got {n} and {m}")

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray((a @ b.T / width + 1) ** 3)

    within_g, within_r, between = kernel(generated, generated), kernel(real, real), kernel(generated, real)
    np.fill_diagonal(within_g, 0)
    np.fill_diagonal(within_r, 0)
    g, r, b = within_g.sum(), within_r.sum(), between.sum()
    value = g / (n * (n - 1)) + r / (m * (m - 1)) - 2 * b / (n * m)
    # Each replicate leaves one image out, which takes its row and its column from the sums.
    without_g = (g - 2 * within_g.sum(1)) / ((n - 1) * (n - 2)) + r / (m * (m - 1))
    without_g -= 2 * (b - between.sum(1)) / ((n - 1) * m)
    without_r = g / (n * (n - 1)) + (r - 2 * within_r.sum(1)) / ((m - 1) * (m - 2))
    without_r -= 2 * (b - between.sum(0)) / (n * (m - 1))
    variance = (n - 1) * without_g.var() + (m - 1) * without_r.var()
    half = _student(min(n, m) - 1) * math.sqrt(variance)
    return Estimate(float(value), float(value - half), float(value + half), n, m)


def frechet_distance(generated: np.ndarray, real: np.ndarray) -> Estimate:
    """Fréchet distance between Gaussians fitted to the two sets.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium" (FID there, on Inception features). The trace of √(Σ₁Σ₂) is the nuclear norm of
    X Yᵀ / √((n−1)(m−1)) with X, Y the centred features: exact, and fast at few images. Of more images
    than features only the triangle of their QR decomposition is needed.
    Biased upwards at small n: compare values of the same n and m only.

    Args:
        generated: float64 ``[n, d]``, n ≥ 2.
        real: float64 ``[m, d]``, m ≥ 2.
    """
    n, m = len(generated), len(real)
    if min(n, m) < 2:
        raise ValueError(f"a covariance needs 2 images a side, got {n} and {m}")
    mean_g, mean_r = generated.mean(0), real.mean(0)
    x, y = (generated - mean_g) / math.sqrt(n - 1), (real - mean_r) / math.sqrt(m - 1)
    spread = (x**2).sum() + (y**2).sum()
    cross = np.linalg.svd(_triangle(x) @ _triangle(y).T, compute_uv=False).sum()
    value = ((mean_g - mean_r) ** 2).sum() + spread - 2 * cross
    return Estimate(float(max(value, 0.0)), n=n, m=m)


def memorised(generated: np.ndarray, reference: np.ndarray) -> Estimate:
    """Share of generated images closer to a training image than real unseen images are.

    The comparison of Meehan, Chaudhuri & Dasgupta 2020, "A Non-Parametric Test to Detect Data-Copying
    in Generative Models", as a share: below the 1st percentile of the held-out images' distances. With
    few of those that is nearly their smallest, and about 1 in m + 1 images falls below it without
    copying. Wilson's interval, for the threshold found.

    Args:
        generated: distances to the nearest training image as `components.nearest.nearest` gives them, float64 ``[n]``.
        reference: the same for held-out real images, float64 ``[m]``.
    """
    threshold = np.quantile(reference, 0.01)
    return proportion(int((generated < threshold).sum()), len(generated), len(reference))


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


def _triangle(rows: np.ndarray) -> np.ndarray:
    """`rows`, or their QR decomposition's R where that is smaller: it has the same inner products."""
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows


def _student(freedom: int) -> float:
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
