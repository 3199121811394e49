"""What is measured of a checkpoint, and the same between real crops: class by class, then averaged.

Class by class, since a model that draws one class well and mixes up two others can fit the pooled
crops. What only many images carry (the Inception Score, subsets) is measured over all classes at once.
Features in, `Estimate`s out; drawing and reading are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from components.artifacts import Estimate
from components.evaluate import metrics
from components.evaluate.config import EvaluateConfig
from components.evaluate.metrics import Joined, KernelDistance, Rows
from components.evaluate.names import HIGHER_IS_BETTER, Names, absent
from components.evaluate.probe import Probe

Measured = dict[str, Estimate]
#: Extractor → features to a classifier's logits, float64 ``[k, d]`` to ``[k, classes]``; for those that have one.
Classifiers = Mapping[str, Callable[[np.ndarray], np.ndarray]]

#: The extractor that classes and copies are recognised by.
MAIN = "lite0"
_SPLIT_OF = 10  # images: below, the Inception Score is mostly its own upper bound


@dataclass(frozen=True)
class ImageSet:
    """What is measured of one class's images."""

    features: Mapping[str, Rows]  #: extractor → float64 ``[n, d]``
    #: distance to the nearest training view by features, float64 ``[n]``; empty for training crops
    nearest: np.ndarray = field(default_factory=lambda: np.empty(0))
    pixels: np.ndarray = field(default_factory=lambda: np.empty(0))  #: the same by pixels
    clip: np.ndarray | None = None  #: CLIP scores, float64 ``[n]``

    @property
    def count(self) -> int:
        return len(next(iter(self.features.values())))


class RealFeatures:
    """What is known of the real crops.

    Args:
        train: class → training crops, as if they had been generated.
        reference: class → held-out crops.
        views: every training crop, all classes in the order of `train`, in each view that training
            showed: features of `MAIN`, float64 ``[views × crops, d]``, view by view.
        classifiers: for the Inception Score.
    """

    def __init__(
        self,
        train: Mapping[str, ImageSet],
        reference: Mapping[str, ImageSet],
        views: np.ndarray,
        classifiers: Classifiers,
    ) -> None:
        self.train, self.reference, self.views, self.classifiers = train, reference, views, classifiers
        rows = [images.features[MAIN][:] for images in train.values()]
        labels = np.repeat(np.arange(len(train)), [len(part) for part in rows])
        #: None with one class.
        self.probe = Probe(np.concatenate(rows), labels) if len(train) > 1 else None
        # Of all classes: one class has too few for a 1st percentile.
        self.all_nearest = np.concatenate([images.nearest for images in reference.values()])
        self.all_pixels = np.concatenate([images.pixels for images in reference.values()])


@dataclass(frozen=True)
class Measurements:
    """A checkpoint's numbers, and what its difference from another's is worth."""

    per_class: dict[str, Measured]
    pooled: Measured  #: what is measured over all classes at once
    kernels: dict[str, dict[str, KernelDistance]]  #: kernel distance's name → class → its parts

    @property
    def overall(self) -> Measured:
        """The mean over the classes of each metric that all of them have, and the pooled ones."""
        first, *others = self.per_class.values()
        names = [name for name in first if all(name in measured for measured in others)]
        return {n: metrics.mean_of([m[n] for m in self.per_class.values()]) for n in names} | self.pooled


def of_checkpoint(images: Mapping[str, ImageSet], real: RealFeatures, config: EvaluateConfig) -> Measurements:
    """What a checkpoint drew (by class), against the held-out crops."""
    kernels: dict[str, dict[str, KernelDistance]] = {}
    per_class: dict[str, Measured] = {}
    for number, (name, drawn) in enumerate(images.items()):
        measured: Measured = {}
        for extractor, generated in drawn.features.items():
            kernel = KernelDistance(generated, real.reference[name].features[extractor])
            kernels.setdefault(Names(extractor).kernel, {})[name] = kernel
            measured[Names(extractor).kernel] = kernel.estimate()
            reference, train = real.reference[name].features[extractor], real.train[name].features[extractor]
            measured |= _of_features(extractor, generated, reference, train, config)
        measured |= _copies(drawn, real)
        if real.probe is not None:
            measured["class_alignment"] = _alignment(drawn, number, real)
        if drawn.clip is not None:
            measured["clip_score"] = metrics.mean(drawn.clip)
        per_class[name] = measured
    return Measurements(per_class, _pooled(images, real.reference, real.classifiers, config), kernels)


def of_folders(
    images: ImageSet, reference: ImageSet, train: ImageSet | None, classifiers: Classifiers, config: EvaluateConfig
) -> Measured:
    """One set of images against another, without classes; copies are looked for in `train`, where it is given.

    `nearest` and `pixels` of `images` and `reference` are distances to `train`.
    """
    measured: Measured = {}
    for extractor, generated in images.features.items():
        real = reference.features[extractor]
        measured[Names(extractor).kernel] = metrics.kernel_distance(generated, real)
        trained = generated[:0] if train is None else train.features[extractor]
        measured |= _of_features(extractor, generated, real, trained, config)
    if train is not None:
        measured["memorised"] = metrics.memorised(images.nearest, reference.nearest)
        measured["memorised_pixels"] = metrics.memorised(images.pixels, reference.pixels)
        measured["nearest_train"] = metrics.median(images.nearest, train.count)
    if images.clip is not None:
        measured["clip_score"] = metrics.mean(images.clip)
    return measured | _pooled({"": images}, {"": reference}, classifiers, config)


def floor(real: RealFeatures, config: EvaluateConfig) -> Measurements:
    """The same between real images: training crops as if they had been generated.

    What depends on the number of images takes as many of them as are generated, where there are.
    Recognition, nearest distances and diversity are those of the held-out crops.
    """
    per_class: dict[str, Measured] = {}
    for number, (name, train) in enumerate(real.train.items()):
        reference = real.reference[name]
        measured: Measured = {}
        for extractor, rows in train.features.items():
            measured[Names(extractor).kernel] = metrics.kernel_distance(rows, reference.features[extractor])
            chosen = np.linspace(0, len(rows) - 1, min(config.images_per_class, len(rows))).round().astype(int)
            # Without training crops: diversity within clusters is that of the held-out ones, below.
            measured |= _of_features(extractor, rows[chosen], reference.features[extractor], rows[:0], config)
            measured[Names(extractor).diversity] = metrics.diversity(reference.features[extractor])
            within = metrics.diversity_in_clusters(reference.features[extractor], rows)
            if within is not None:
                measured[Names(extractor).clusters] = within
        measured |= _copies(reference, real)
        if real.probe is not None:
            measured["class_alignment"] = _alignment(reference, number, real)
        if reference.clip is not None:
            measured["clip_score"] = metrics.mean(reference.clip)
        per_class[name] = measured
    return Measurements(per_class, _pooled(real.train, real.reference, real.classifiers, config), {})


def missing(real: RealFeatures, config: EvaluateConfig, networks: Mapping[str, str]) -> dict[str, str]:
    """Metric → why it is not measured. `networks`: extractor → why it is not there."""
    first = next(iter(real.train.values()))
    fewest = min(config.images_per_class, *(crops.count for crops in real.reference.values()))
    found = too_few(
        first, real.classifiers, fewest, config.images_per_class * len(real.train), len(real.all_nearest), config
    )
    if real.probe is None:
        found["class_alignment"] = "there is one class; nothing to mix it up with"
    return absent(networks) | found


def too_few(
    seen: ImageSet, classifiers: Classifiers, fewest: int, generated: int, real: int, config: EvaluateConfig
) -> dict[str, str]:
    """Metric → why there are too few images for it.

    Args:
        seen: any set, for the networks that there are.
        fewest: images of the class and side that has fewest.
        generated, real: images of all classes together.
    """
    found: dict[str, str] = {}
    if "inception" in seen.features and "inception" not in classifiers:
        found["inception_score"] = "the weights that evaluate.inception names hold no classifier"
    for extractor in seen.features:
        names = Names(extractor)
        if fewest <= config.nearest_k:
            why = f"a class has {fewest} images on one side, and more than nearest_k = {config.nearest_k} are needed"
            found |= dict.fromkeys(names.manifold, why)
        if min(generated, real) < config.kid_subset_size:
            found[names.subsets] = (
                f"subsets of kid_subset_size = {config.kid_subset_size} need as many images on each side, of all "
                f"classes together, and there are {min(generated, real)}; {names.kernel} has the same expectation at "
                "any number"
            )
    if generated < _SPLIT_OF * config.inception_score_splits:
        why = (
            f"{generated} images in {config.inception_score_splits} splits: with fewer than {_SPLIT_OF} images a split "
            "it is little more than its own upper bound"
        )
        found |= {Names(extractor).inception_score: why for extractor in classifiers}
    return found


def directions(measured: Measured) -> dict[str, bool]:
    """Metric → whether higher is better, for those of `measured` that a checkpoint can be chosen by."""
    known = dict(HIGHER_IS_BETTER)
    for names in map(Names, Names.EXTRACTORS):
        known |= dict.fromkeys((names.kernel, names.frechet, names.subsets), False)
        known |= dict.fromkeys(names.manifold, True)
    return {name: known[name] for name in known if name in measured}


def _of_features(extractor: str, generated: Rows, reference: Rows, train: Rows, config: EvaluateConfig) -> Measured:
    """All but the kernel distance of one extractor's features."""
    names = Names(extractor)
    measured = {names.frechet: metrics.frechet_distance(generated, reference)}
    if min(len(generated), len(reference)) > config.nearest_k:
        shares = metrics.manifold(generated, reference, config.nearest_k)
        values = (shares.precision, shares.recall, shares.density, shares.coverage)
        measured |= {n: Estimate(v, n=len(generated), m=len(reference)) for n, v in zip(names.manifold, values)}
    measured[names.diversity] = metrics.diversity(generated)
    if not len(train):
        return measured
    within = metrics.diversity_in_clusters(generated, train)
    if within is not None:
        measured[names.clusters] = within
    return measured


def _copies(images: ImageSet, real: RealFeatures) -> Measured:
    return {
        "memorised": metrics.memorised(images.nearest, real.all_nearest),
        "memorised_pixels": metrics.memorised(images.pixels, real.all_pixels),
        "nearest_train": metrics.median(images.nearest, len(real.views)),
    }


def _alignment(images: ImageSet, number: int, real: RealFeatures) -> Estimate:
    assert real.probe is not None
    rows = images.features[MAIN]
    crops = sum(train.count for train in real.train.values())
    hits = sum(int((real.probe(block) == number).sum()) for _, block in metrics.blocks(rows))
    return metrics.proportion(hits, len(rows), crops)


def _pooled(
    images: Mapping[str, ImageSet], reference: Mapping[str, ImageSet], classifiers: Classifiers, config: EvaluateConfig
) -> Measured:
    measured: Measured = {}
    for extractor in next(iter(images.values())).features:
        generated, real = (Joined([part.features[extractor] for part in side.values()]) for side in (images, reference))
        if extractor in classifiers and len(generated) >= _SPLIT_OF * config.inception_score_splits:
            # In a mixed order: by class, a split would hold one class.
            mixed = np.random.default_rng(0).permutation(len(generated))
            score, _ = metrics.inception_score(
                generated, config.inception_score_splits, classifiers[extractor], order=mixed
            )
            measured[Names(extractor).inception_score] = Estimate(score, n=len(generated))
        if min(len(generated), len(real)) >= config.kid_subset_size:
            value, _ = metrics.kernel_distance_of_subsets(generated, real, config.kid_subsets, config.kid_subset_size)
            measured[Names(extractor).subsets] = Estimate(value, n=len(generated), m=len(real))
    return measured
