"""Fidelity and variety apart: precision, recall, density and coverage of neighbourhoods in feature space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from components.evaluate.metrics.rows import Rows, blocks


@dataclass(frozen=True)
class Manifold:
    """How two sets of images lie in each other's neighbourhoods."""

    precision: float  #: share of generated images inside the real images' neighbourhoods, 0 to 1
    recall: float  #: share of real images inside the generated images' neighbourhoods, 0 to 1
    density: float  #: in how many real neighbourhoods a generated image lies, over k: 1 is expected, may be more
    coverage: float  #: share of real images whose neighbourhood holds a generated image, 0 to 1


def manifold(generated: Rows, real: Rows, k: int = 5) -> Manifold:
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
    n, m = len(generated), len(real)
    if min(n, m) <= k:
        raise ValueError(f"{n} and {m} images: more than k = {k} are needed on each side")
    of_real, of_generated = _radii(real, k), _radii(generated, k)
    precise, dense = np.zeros(n, bool), 0
    recalled, nearest = np.zeros(m, bool), np.full(m, np.inf)
    for here, there, away in _distances(generated, real):
        inside = away < of_real[there]
        precise[here] |= inside.any(1)
        dense += int(inside.sum())
        recalled[there] |= (away < of_generated[here, None]).any(0)
        nearest[there] = np.minimum(nearest[there], away.min(0))
    return Manifold(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=dense / (k * n),
        coverage=float((nearest < of_real).mean()),
    )


def _radii(rows: Rows, k: int) -> np.ndarray:
    """Distance of each row to its `k`-th nearest other row, float64 ``[n]``."""
    # The smallest distances so far: to the row itself, which is 0, and to its k nearest.
    smallest = np.full((len(rows), k + 1), np.inf)
    for here, there, away in _distances(rows, rows):
        if here == there:
            # Exactly, since rounding may leave a row at a distance from itself.
            np.fill_diagonal(away, 0)
        smallest[here] = np.partition(np.concatenate([smallest[here], away], axis=1), k, axis=1)[:, : k + 1]
    return np.asarray(smallest.max(1))


def _distances(a: Rows, b: Rows) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Places in `a` and `b`, and the Euclidean distances between the rows there, float64 ``[block, block]``."""
    for here, rows in blocks(a):
        for there, others in blocks(b):
            squares = (rows**2).sum(1)[:, None] + (others**2).sum(1)[None] - 2 * rows @ others.T
            yield here, there, np.sqrt(np.maximum(squares, 0))
