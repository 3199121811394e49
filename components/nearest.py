"""The training image nearest to each image, by the angle between their features.

Pure numerics on float64 arrays of one row an image; what a distance means is said beside each use.
"""

from __future__ import annotations

import numpy as np


def nearest(images: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest training image of each image by cosine distance of their features.

    Args:
        images: float64 ``[n, d]``.
        train: float64 ``[k, d]``, k ≥ 1.

    Returns:
        distances float64 ``[n]``, 0 (same direction) to 2, and indices int64 ``[n]`` into `train`.
    """
    similarity = _unit(images) @ _unit(train).T
    index = similarity.argmax(1)
    return 1 - similarity[np.arange(len(images)), index], index


def _unit(rows: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, np.finfo(np.float64).tiny))
