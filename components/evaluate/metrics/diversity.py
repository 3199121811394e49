"""Variety among the images of a class: does a model draw many images, or one image many times?"""

from __future__ import annotations

import math

import numpy as np

from components.artifacts import Estimate
from components.evaluate.metrics.estimates import student
from components.evaluate.metrics.rows import Rows, blocks


def diversity(features: Rows) -> Estimate:
    """Mean cosine distance between two images, with a jackknife interval (Arvesen 1969); 0 is mode collapse.

    Args:
        features: float64 ``[n, d]``, n ≥ 3.
    """
    n = len(features)
    if n < 3:
        raise ValueError(f"a jackknife needs 3 images, got {n}")
    # Σ over others of 1 − cos, from sums alone: no n × n matrix.
    total_of_units = sum(_unit(rows).sum(0) for _, rows in blocks(features))
    to_others = np.concatenate([n - _unit(rows) @ total_of_units for _, rows in blocks(features)])
    total = to_others.sum()
    without = (total - 2 * to_others) / ((n - 1) * (n - 2))
    value = float(total / (n * (n - 1)))
    half = student(n - 1) * math.sqrt((n - 1) * without.var())
    return Estimate(value, value - half, value + half, n)


def diversity_in_clusters(generated: Rows, train: Rows) -> Estimate | None:
    """Mean cosine distance between images that have the same nearest training image, averaged over those.

    The intra-cluster distance of Ojha et al. 2021, "Few-shot Image Generation via Cross-domain
    Correspondence" (there with LPIPS): 0 where every image is a copy of a training image, however many
    of those are copied, which `diversity` cannot see. No interval. None where no two images share one.

    Args:
        generated: float64 ``[n, d]``.
        train: float64 ``[k, d]``; read as a whole.
    """
    crops = _unit(train[:])
    counts, sums = np.zeros(len(crops)), np.zeros(crops.shape)
    for _, rows in blocks(generated):
        unit = _unit(rows)
        nearest = (unit @ crops.T).argmax(1)
        np.add.at(sums, nearest, unit)
        counts += np.bincount(nearest, minlength=len(crops))
    shared = counts > 1
    if not shared.any():
        return None
    count = counts[shared]
    # The mean of 1 − cos over pairs, again from sums alone.
    spread = (count**2 - (sums[shared] ** 2).sum(1)) / (count * (count - 1))
    return Estimate(float(max(spread.mean(), 0.0)), n=int(count.sum()), m=len(count))


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(np.finfo(np.float64).tiny))
