"""Variety among the images of a class: does a model draw many images, or one image many times?"""

from __future__ import annotations

import math

import numpy as np

from components.artifacts import Estimate
from components.evaluate.metrics.estimates import student


def diversity(features: np.ndarray) -> Estimate:
    """Mean cosine distance between two images, with a jackknife interval (Arvesen 1969); 0 is mode collapse.

    Args:
        features: float64 ``[n, d]``, n ≥ 3.
    """
    n = len(features)
    if n < 3:
        raise ValueError(f"a jackknife needs 3 images, got {n}")
    unit = _unit(features)
    # Σ over others of 1 − cos, from sums alone: no n × n matrix.
    to_others = n - unit @ unit.sum(0)
    total = to_others.sum()
    without = (total - 2 * to_others) / ((n - 1) * (n - 2))
    value = float(total / (n * (n - 1)))
    half = student(n - 1) * math.sqrt((n - 1) * without.var())
    return Estimate(value, value - half, value + half, n)


def diversity_in_clusters(generated: np.ndarray, train: np.ndarray) -> Estimate | None:
    """Mean cosine distance between images that have the same nearest training image, averaged over those.

    The intra-cluster distance of Ojha et al. 2021, "Few-shot Image Generation via Cross-domain
    Correspondence" (there with LPIPS): 0 where every image is a copy of a training image, however many
    of those are copied, which `diversity` cannot see. No interval. None where no two images share one.

    Args:
        generated: float64 ``[n, d]``.
        train: float64 ``[k, d]``.
    """
    unit = _unit(generated)
    nearest = (unit @ _unit(train).T).argmax(1)
    spread, members = [], 0
    for cluster in np.unique(nearest):
        rows = unit[nearest == cluster]
        count = len(rows)
        if count > 1:
            spread.append((count**2 - (rows.sum(0) ** 2).sum()) / (count * (count - 1)))
            members += count
    return Estimate(float(max(np.mean(spread), 0.0)), n=members, m=len(spread)) if spread else None


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(np.finfo(np.float64).tiny))
