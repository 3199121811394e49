"""What is measured of a checkpoint, and the same between real crops: class by class, then averaged.

Class by class, since a model that draws one class well and mixes up two others can fit the pooled
crops. Features in, `Estimate`s out; drawing and reading are elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from components.artifacts import Estimate
from components.evaluate import metrics
from components.evaluate.probe import Probe
from components.nearest import nearest

Measured = dict[str, Estimate]

#: Metric → whether higher is better, for those that a checkpoint can be chosen by. The distance to the
#: nearest training image is none of them: small is copied, large is unlike anything real.
HIGHER_IS_BETTER = {"kd_lite0": False, "fd_lite0": False, "memorised": False, "class_alignment": True}

#: Metrics that people will look for, and why they are not here.
ABSENT = {
    "fid": "needs Inception weights, which no package carries under a clear licence; fd_lite0 is the same "
    "distance on other features, and its numbers are not FIDs",
    "kid": "as fid; kd_lite0 is the same distance on other features, and its numbers are not KIDs",
    "inception_score": "never looks at the real images, and is bounded by the number of images drawn",
    "clip_score": "no package carries CLIP weights, and no hub is asked",
}
_ONE_CLASS = "there is one class; nothing to mix it up with"


class RealFeatures:
    """Features of the real crops and what follows from them.

    Args:
        train: class → float64 ``[crops, d]``.
        reference: the same of the held-out crops.
        views: every training crop, all classes in the order of `train`, in each view that training
            showed: float64 ``[views × crops, d]``, view by view.
    """

    def __init__(self, train: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], views: np.ndarray) -> None:
        self.train, self.reference, self.views = train, reference, views
        #: class → distance of each held-out crop to the nearest view, float64 ``[crops]``.
        self.reference_distances = {name: nearest(rows, views)[0] for name, rows in reference.items()}
        labels = np.repeat(np.arange(len(train)), [len(rows) for rows in train.values()])
        #: None with one class.
        self.probe = Probe(np.concatenate(list(train.values())), labels) if len(train) > 1 else None

    def absent(self) -> dict[str, str]:
        """Metric → why it was not measured."""
        return ABSENT if self.probe else {**ABSENT, "class_alignment": _ONE_CLASS}

    def directions(self) -> dict[str, bool]:
        """`HIGHER_IS_BETTER` of the metrics that are measured."""
        return {name: higher for name, higher in HIGHER_IS_BETTER.items() if name not in self.absent()}


def of_checkpoint(
    generated: Mapping[str, np.ndarray], distances: Mapping[str, np.ndarray], real: RealFeatures
) -> dict[str, Measured]:
    """Class → metrics of the images drawn.

    Args:
        generated: class → features, float64 ``[n, d]``.
        distances: class → distance of each image to its nearest training view, float64 ``[n]``.
    """
    return {
        name: _of_class(number, generated[name], generated[name], distances[name], name, real)
        for number, name in enumerate(real.train)
    }


def floor(real: RealFeatures, images_per_class: int) -> dict[str, Measured]:
    """Class → the same metrics between real images: training crops as if they had been generated.

    The Fréchet distance takes as many of them as were generated, where there are: it depends on their
    number. Recognition and nearest distances are those of the held-out crops.
    """
    values = {}
    for number, (name, train) in enumerate(real.train.items()):
        chosen = np.linspace(0, len(train) - 1, min(images_per_class, len(train))).round().astype(int)
        reference, distances = real.reference[name], real.reference_distances[name]
        measured = _of_class(number, train, reference, distances, name, real)
        values[name] = {**measured, "fd_lite0": metrics.frechet_distance(train[chosen], reference)}
    return values


def _of_class(
    number: int, images: np.ndarray, recognised: np.ndarray, distances: np.ndarray, name: str, real: RealFeatures
) -> Measured:
    reference = real.reference[name]
    measured = {
        "kd_lite0": metrics.kernel_distance(images, reference),
        "fd_lite0": metrics.frechet_distance(images, reference),
        # Against the held-out crops of all classes: one class has too few for a 1st percentile.
        "memorised": metrics.memorised(distances, np.concatenate(list(real.reference_distances.values()))),
        "nearest_train": metrics.median(distances, len(real.views)),
    }
    if real.probe is not None:
        hits = int((real.probe(recognised) == number).sum())
        crops = sum(len(rows) for rows in real.train.values())
        measured["class_alignment"] = metrics.proportion(hits, len(recognised), crops)
    return measured


def average(per_class: Mapping[str, Measured]) -> Measured:
    """Each metric's mean over the classes."""
    names = next(iter(per_class.values()))
    return {metric: metrics.mean_of([measured[metric] for measured in per_class.values()]) for metric in names}
