"""Fidelity and variety apart: precision, recall, density and coverage of neighbourhoods in feature space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Manifold:
    """How two sets of images lie in each other's neighbourhoods."""

    precision: float  #: share of generated images inside the real images' neighbourhoods, 0 to 1
    recall: float  #: share of real images inside the generated images' neighbourhoods, 0 to 1
    density: float  #: in how many real neighbourhoods a generated image lies, over k: 1 is expected, may be more
    coverage: float  #: share of real images whose neighbourhood holds a generated image, 0 to 1


def manifold(generated: np.ndarray, real: np.ndarray, k: int = 5) -> Manifold:
    """Precision and recall (Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing
    Generative Models"), density and coverage (Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics").

    A neighbourhood is the open ball around an image that reaches to its `k`-th nearest neighbour of its
    own set. No interval for few images is known; read the values beside their real-against-real floor at
    the same numbers of images, since all four depend on them.

    Args:
        generated: float64 ``[n, d]``, n > k.
        real: float64 ``[m, d]``, m > k.

    Raises:
        ValueError: for too few images.
    """
    if min(len(generated), len(real)) <= k:
        raise ValueError(f"{len(generated)} and {len(real)} images: more than k = {k} are needed on each side")
    of_real, of_generated = _radii(real, k), _radii(generated, k)
    between = _distances(real, generated)
    inside = between < of_real[:, None]
    return Manifold(
        precision=float(inside.any(0).mean()),
        recall=float((between < of_generated[None]).any(1).mean()),
        density=float(inside.sum(0).mean() / k),
        coverage=float((between.min(1) < of_real).mean()),
    )


def _radii(rows: np.ndarray, k: int) -> np.ndarray:
    """Distance of each row to its `k`-th nearest other row, float64 ``[n]``."""
    distances = _distances(rows, rows)
    # Exactly, since rounding may leave a row at a distance from itself.
    np.fill_diagonal(distances, 0)
    return np.partition(distances, k, axis=1)[:, k]


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares, 0))
