"""Copying: generated images that are nearer to a training image than real unseen images are."""

from __future__ import annotations

import numpy as np

from components.artifacts import Estimate
from components.evaluate.metrics.estimates import proportion


def memorised(generated: np.ndarray, reference: np.ndarray) -> Estimate:
    """Share of generated images closer to a training image than real unseen images are.

    The comparison of Meehan, Chaudhuri & Dasgupta 2020, "A Non-Parametric Test to Detect Data-Copying
    in Generative Models", as a share: below the 1st percentile of the held-out images' distances. With
    few of those that is nearly their smallest, and about 1 in m + 1 images falls below it without
    copying. Wilson's interval, for the threshold found.

    Args:
        generated: distances to the nearest training image, of features (`components.nearest`) or of pixels
            (`components.evaluate.pixels`), float64 ``[n]``.
        reference: the same for held-out real images, float64 ``[m]``.
    """
    threshold = np.quantile(reference, 0.01)
    return proportion(int((generated < threshold).sum()), len(generated), len(reference))
