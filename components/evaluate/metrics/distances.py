"""Distances between two sets of images: kernel (KID's) and Fréchet (FID's).

Pure numerics on float64 arrays of one row an image; images, models and files live elsewhere. Which
features they are is the caller's to say: on Inception features these are KID and FID. The Fréchet
distance has no interval: bootstrap intervals do not cover its bias at small n, so it is to be read
beside its real-against-real floor at the same n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from components.artifacts import Estimate
from components.evaluate.metrics.estimates import student
from components.evaluate.metrics.rows import Rows, blocks


class KernelDistance:
    """The unbiased squared MMD between generated and real images, and what leaving one image out makes of it.

    Two checkpoints that were given the same noise are compared by their differences image by image:
    `kernel_difference`.

    Args:
        generated: float64 ``[n, d]``, n ≥ 3.
        real: float64 ``[m, d]``, m ≥ 3.
    """

    def __init__(self, generated: Rows, real: Rows) -> None:
        n, m = len(generated), len(real)
        if min(n, m) < 3:
            raise ValueError(f"a jackknife needs 3 images a side, got {n} and {m}")
        within_g, within_r = _sums(generated, generated, same=True)[0], _sums(real, real, same=True)[0]
        between_g, between_r = _sums(generated, real)
        g, r, b = within_g.sum(), within_r.sum(), between_g.sum()
        self.value = float(g / (n * (n - 1)) + r / (m * (m - 1)) - 2 * b / (n * m))
        # Each replicate leaves one image out, which takes its row and its column from the sums.
        without_g = (g - 2 * within_g) / ((n - 1) * (n - 2)) + r / (m * (m - 1))
        #: Value without each of the generated images, float64 ``[n]``.
        self.without_generated = without_g - 2 * (b - between_g) / ((n - 1) * m)
        without_r = g / (n * (n - 1)) + (r - 2 * within_r) / ((m - 1) * (m - 2))
        #: Value without each of the real images, float64 ``[m]``.
        self.without_real = without_r - 2 * (b - between_r) / (n * (m - 1))

    def estimate(self) -> Estimate:
        """The distance with its jackknife interval."""
        return _jackknife(self.value, self.without_generated, self.without_real)


def kernel_distance(generated: Rows, real: Rows) -> Estimate:
    """Kernel distance: the unbiased squared MMD with the kernel (x·y / d + 1)³.

    Bińkowski, Sutherland, Arbel & Gretton 2018, "Demystifying MMD GANs" (KID there, on Inception
    features); the U-statistic of Gretton et al. 2012, "A Kernel Two-Sample Test", eq. 3, over all
    images instead of subsets. Its expectation does not depend on n, and it may be negative. The interval
    is a two-sample jackknife's (Arvesen 1969, "Jackknifing U-Statistics"), with Student's t.

    Args:
        generated: float64 ``[n, d]``, n ≥ 3.
        real: float64 ``[m, d]``, m ≥ 3.
    """
    return KernelDistance(generated, real).estimate()


def kernel_difference(a: KernelDistance, b: KernelDistance) -> Estimate:
    """`a` minus `b`, of two models that drew from the same noise and are held against the same real images.

    Paired: a replicate leaves out the same noise, or the same real image, on both sides, so what the two
    have in common cancels. `b` has as many images of each kind as `a`, in the same order.
    """
    return _jackknife(a.value - b.value, a.without_generated - b.without_generated, a.without_real - b.without_real)


def kernel_distance_of_subsets(
    generated: Rows,
    real: Rows,
    subsets: int = 100,
    size: int = 1000,
    permutation: Callable[[int], np.ndarray] | None = None,
) -> tuple[float, float]:
    """Mean and standard deviation of the kernel distance over random subsets, as KID is commonly reported.

    The deviation says how subsets differ, not how sure the mean is: subsets share images. It is 0 by
    construction where `size` is the number of images. `kernel_distance` has the same expectation and an
    interval; this form is for comparison with published numbers.

    Args:
        generated: float64 ``[n, d]``, n ≥ `size`.
        real: float64 ``[m, d]``, m ≥ `size`.
        permutation: of 0 … count − 1 by count, called for the real, then for the generated images of each
            subset; NumPy's with seed 0 where not given.

    Raises:
        ValueError: for fewer images than `size`.
    """
    if min(len(generated), len(real)) < size or size < 3:
        raise ValueError(f"subsets of {size} (3 or more) out of {len(generated)} and {len(real)} images")
    permutation = permutation or np.random.default_rng(0).permutation
    values = []
    for _ in range(subsets):
        chosen_real = real[permutation(len(real))[:size]]
        values.append(KernelDistance(generated[permutation(len(generated))[:size]], chosen_real).value)
    return float(np.mean(values)), float(np.std(values))


def frechet_distance(generated: Rows, real: Rows) -> Estimate:
    """Fréchet distance between Gaussians fitted to the two sets.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium" (FID there, on Inception features). The trace of √(Σ₁Σ₂) is the nuclear norm of
    X Yᵀ / √((n−1)(m−1)) with X, Y the centred features: exact, and fast at few images. Of more rows than
    columns only the triangle of a QR decomposition is needed, which is made block by block.
    Biased upwards at small n: compare values of the same n and m only.

    Args:
        generated: float64 ``[n, d]``, n ≥ 2.
        real: float64 ``[m, d]``, m ≥ 2.
    """
    n, m = len(generated), len(real)
    if min(n, m) < 2:
        raise ValueError(f"a covariance needs 2 images a side, got {n} and {m}")
    fewer, more = sorted((_Centred(generated), _Centred(real)), key=lambda side: side.count)
    # The larger side's rows in the space that the smaller one spans: as few columns as that has rows.
    factor = _triangle(fewer.blocks()).T
    cross = np.linalg.svd(_triangle(rows @ factor for rows in more.blocks()), compute_uv=False).sum()
    value = ((fewer.mean - more.mean) ** 2).sum() + fewer.variance + more.variance - 2 * cross
    return Estimate(float(max(value, 0.0)), n=n, m=m)


def frechet_distance_of_covariances(generated: np.ndarray, real: np.ndarray) -> float:
    """The Fréchet distance in its usual form: the eigenvalues of the product of the d × d covariances.

    What FID programs compute; equal to `frechet_distance` but for rounding, and slower where there are
    fewer images than features. Kept to hold the fast form against.

    Args:
        generated: float64 ``[n, d]``, n ≥ 2.
        real: float64 ``[m, d]``, m ≥ 2.
    """
    cov_g, cov_r = np.cov(generated, rowvar=False), np.cov(real, rowvar=False)
    # Their product is similar to a positive semidefinite matrix: what is not real and positive is rounding.
    eigenvalues = np.linalg.eigvals(cov_g @ cov_r).real.clip(0)
    gap = ((generated.mean(0) - real.mean(0)) ** 2).sum()
    return float(gap + np.trace(cov_g) + np.trace(cov_r) - 2 * np.sqrt(eigenvalues).sum())


def _sums(a: Rows, b: Rows, same: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Row and column sums of the kernel matrix, without its diagonal where `same`; a block at a time."""
    of_rows, of_columns = np.zeros(len(a)), np.zeros(len(b))
    for here, rows in blocks(a):
        for there, columns in blocks(b):
            part = np.asarray((rows @ columns.T / a.shape[1] + 1) ** 3)
            if same and here == there:
                np.fill_diagonal(part, 0)
            of_rows[here] += part.sum(1)
            of_columns[there] += part.sum(0)
    return of_rows, of_columns


def _jackknife(value: float, without_generated: np.ndarray, without_real: np.ndarray) -> Estimate:
    n, m = len(without_generated), len(without_real)
    variance = (n - 1) * without_generated.var() + (m - 1) * without_real.var()
    half = student(min(n, m) - 1) * math.sqrt(variance)
    return Estimate(value, float(value - half), float(value + half), n, m)


class _Centred:
    """Features less their mean, over √(count − 1): their inner products are those of the covariance."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.count = rows, len(rows)
        self.mean = np.asarray(sum(block.sum(0) for _, block in blocks(rows)) / self.count)
        self.variance = float(sum((block**2).sum() for block in self.blocks()))  #: trace of the covariance

    def blocks(self) -> Iterator[np.ndarray]:
        """float64 ``[block, d]``."""
        for _, rows in blocks(self._rows):
            yield (rows - self.mean) / math.sqrt(self.count - 1)


def _triangle(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Rows that have the inner products of all `parts`, at most as many as columns.

    The parts themselves where these are few; else the R of a QR decomposition, taken up part by part (Demmel
    et al. 2012, "Communication-optimal Parallel and Sequential QR and LU Factorizations").
    """
    found: np.ndarray | None = None
    for part in parts:
        found = part if found is None else np.concatenate([found, part])
        # Not for every few rows more: a triangle costs as much for one of them as for as many as it has.
        if len(found) > 2 * found.shape[1]:
            found = np.asarray(np.linalg.qr(found, mode="r"))
    assert found is not None
    return found if len(found) <= found.shape[1] else np.asarray(np.linalg.qr(found, mode="r"))
