"""What is measured where there are several networks, one class, or few images; and how it is called."""

from __future__ import annotations

import numpy as np
import pytest

from components.evaluate import measure
from components.evaluate.config import EvaluateConfig
from components.evaluate.measure import ImageSet, RealFeatures
from components.evaluate.tables import extractor_of
from components.evaluate.wording import cell, explained, label

CONFIG = EvaluateConfig(images_per_class=12, kid_subset_size=10, kid_subsets=5)
CLASSES = ("bar", "hole")
NETWORKS = ("lite0", "inception", "clip")


def images(seed: int, count: int, shift: float = 0.0, networks: tuple[str, ...] = NETWORKS) -> dict[str, ImageSet]:
    """Class → made-up features of width 16, and distances."""
    random = np.random.default_rng(seed)
    sets = {}
    for number, name in enumerate(CLASSES):
        features = {e: random.normal(shift + 2 * number, 1, (count, 16)) for e in networks}
        sets[name] = ImageSet(
            features,
            nearest=random.uniform(0.1, 0.2, count),
            pixels=random.uniform(10, 20, count),
            clip=random.normal(25, 1, count) if "clip" in networks else None,
        )
    return sets


@pytest.fixture(scope="module")
def real() -> RealFeatures:
    train, reference = images(0, 15), images(1, 12)
    views = np.concatenate([s.features["lite0"][:] for s in train.values()])
    return RealFeatures(train, reference, views, {"lite0": as_logits, "inception": as_logits})


def as_logits(rows: np.ndarray) -> np.ndarray:
    """A classifier that takes features for logits."""
    return rows


def test_each_network_has_names_of_its_own(real: RealFeatures) -> None:
    near, far = (measure.of_checkpoint(images(2, 12, shift), real, CONFIG).overall for shift in (0, 1))
    per_network = {
        "lite0": ("kd_lite0", "fd_lite0", "kd_lite0_subsets", "is_lite0"),
        "inception": ("kid", "fid", "kid_subsets", "inception_score"),
        "clip": ("kd_clip", "fd_clip", "kd_clip_subsets", "clip_score"),
    }
    for network, names in per_network.items():
        kernel, frechet, subsets, last = names
        assert set(names) <= set(near)
        assert near[kernel].value < far[kernel].value
        assert near[frechet].value < far[frechet].value
        assert near[frechet].low is None
        assert near[subsets].n == 24
        assert near[last].n == 24
        assert near[f"precision_{network}"].value > far[f"precision_{network}"].value
        for name in (*names, f"recall_{network}", f"diversity_{network}"):
            assert extractor_of(name) == network
    assert near["clip_score"].value == pytest.approx(25, abs=1)
    assert near["clip_score"].low is not None
    assert extractor_of("memorised_pixels") == "pixels"
    assert measure.missing(real, CONFIG, {}) == {}
    for name in near:
        assert label(name)
        assert explained(name) or name.endswith("_clip_subsets"), name


def test_directions_leave_out_what_has_no_good_end(real: RealFeatures) -> None:
    directions = measure.directions(measure.floor(real, CONFIG).overall)
    assert not directions["kid"]
    assert not directions["memorised_pixels"]
    assert directions["recall_clip"]
    assert directions["inception_score"]
    assert not {"nearest_train", "diversity_lite0", "diversity_in_clusters_lite0"} & set(directions)


def test_differences_keep_their_parts_by_class(real: RealFeatures) -> None:
    kernels = measure.of_checkpoint(images(2, 12), real, CONFIG).kernels
    assert set(kernels) == {"kd_lite0", "kid", "kd_clip"}
    assert set(kernels["kid"]) == set(CLASSES)


def test_what_few_images_do_not_carry_is_absent_with_the_reason() -> None:
    few = images(3, 4, networks=("lite0",))
    views = np.concatenate([s.features["lite0"][:] for s in few.values()])
    real = RealFeatures(few, few, views, {"lite0": as_logits})
    config = EvaluateConfig(images_per_class=4, inception_score_splits=2)
    measured = measure.of_checkpoint(few, real, config).overall
    missing = measure.missing(real, config, {"inception": "no weights are named", "clip": "no such folder"})
    assert set(measured).isdisjoint(missing)
    assert "a class has 4 images on one side, and more than nearest_k = 5" in missing["coverage_lite0"]
    assert "8 images in 2 splits" in missing["is_lite0"]
    assert "kid_subset_size = 1000" in missing["kd_lite0_subsets"]
    assert missing["fid"] == missing["inception_score"] == "no weights are named"
    assert missing["clip_score"] == missing["kd_clip"] == "no such folder"


def test_values_for_people() -> None:
    estimate = {"value": 0.1234, "low": 0.1, "high": -0.00001}
    assert cell("kid", estimate) == "123.4 [100.0, 0.0]"
    assert cell("recall_lite0", {**estimate, "low": None}) == "12 %"
    assert cell("fid", {**estimate, "low": None}) == "0.1"
    assert cell("diversity_lite0", {**estimate, "value": -0.5}) == "−0.500 [0.100, 0.000]"
    assert cell("kid", None) == "–"
