"""The metrics' values against independent computations, and their intervals against the truth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from components.artifacts import Estimate
from components.evaluate import metrics
from components.evaluate.probe import Probe
from components.nearest import nearest


class Projection(torch.nn.Module):
    """uint8 images ``[n, 3, 8, 8]`` to `width` features, the same in every call."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width
        self.weights = torch.randn(192, width, generator=torch.Generator().manual_seed(1)) / 400

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() @ self.weights


def images(seed: int, count: int, low: int = 0) -> torch.Tensor:
    return torch.randint(low, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def in_order(real: torch.Tensor, generated: torch.Tensor, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of generated and real images, as our functions take them."""
    module = Projection(width)
    return module(generated).double().numpy(), module(real).double().numpy()


def test_kernel_distance_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.kid import KernelInceptionDistance

    real, generated = images(0, 40), images(1, 40, low=60)
    theirs = KernelInceptionDistance(feature=Projection(64), subsets=1, subset_size=40)
    theirs.update(real, real=True)
    theirs.update(generated, real=False)
    ours = metrics.kernel_distance(*in_order(real, generated, 64))
    assert ours.value == pytest.approx(float(theirs.compute()[0]), rel=1e-4)


@pytest.mark.parametrize("width", [16, 64])  # above and below the number of images
def test_frechet_distance_agrees_with_torchmetrics(width: int) -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, generated = images(0, 30), images(1, 45, low=60)
    theirs = FrechetInceptionDistance(feature=Projection(width))
    theirs.set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(generated, real=False)
    ours = metrics.frechet_distance(*in_order(real, generated, width))
    assert ours.value == pytest.approx(float(theirs.compute()), rel=1e-4)
    assert (ours.n, ours.m, ours.low, ours.high) == (45, 30, None, None)


def test_frechet_distance_of_known_gaussians() -> None:
    random = np.random.default_rng(0)
    generated, real = random.normal(1, 2, (40000, 3)), random.normal(0, 1, (40000, 3))
    # |1|² + (2 − 1)² in each of three dimensions.
    assert metrics.frechet_distance(generated, real).value == pytest.approx(6.0, abs=0.1)


def test_kernel_distance_leaves_one_out_as_written_down() -> None:
    """Value and jackknife by plain loops over the definition."""
    random = np.random.default_rng(2)
    x, y = random.normal(size=(6, 5)), random.normal(0.3, 1.2, size=(4, 5))

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        def mean(p: np.ndarray, q: np.ndarray, same: bool) -> float:
            terms = [
                (float(u @ v) / 5 + 1) ** 3 for i, u in enumerate(p) for j, v in enumerate(q) if not same or i != j
            ]
            return sum(terms) / len(terms)

        return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)

    without_x = [statistic(np.delete(x, i, 0), y) for i in range(6)]
    without_y = [statistic(x, np.delete(y, j, 0)) for j in range(4)]
    variance = 5 / 6 * sum((v - np.mean(without_x)) ** 2 for v in without_x)
    variance += 3 / 4 * sum((v - np.mean(without_y)) ** 2 for v in without_y)
    estimate = metrics.kernel_distance(x, y)
    assert estimate.value == pytest.approx(statistic(x, y))
    assert estimate.high is not None
    assert estimate.high - estimate.value == pytest.approx(3.182 * math.sqrt(variance), rel=2e-3)  # t, 3 degrees


def test_identical_sets_are_not_told_apart() -> None:
    random = np.random.default_rng(3)
    estimate = metrics.kernel_distance(random.normal(size=(30, 1280)), random.normal(size=(20, 1280)))
    assert estimate.low is not None
    assert estimate.high is not None
    assert estimate.low < 0 < estimate.high
    assert (estimate.n, estimate.m) == (30, 20)


@pytest.mark.parametrize(("function", "least"), [(metrics.kernel_distance, 3), (metrics.frechet_distance, 2)])
def test_too_few_images_are_refused(function: Callable[..., Estimate], least: int) -> None:
    with pytest.raises(ValueError, match=str(least)):
        function(np.ones((least - 1, 4)), np.ones((9, 4)))


def test_copies_of_training_images_count_as_memorised() -> None:
    random = np.random.default_rng(4)
    train, held_out, other = (random.normal(size=(n, 64)) for n in (40, 200, 98))
    reference, _ = nearest(held_out, train)
    copied = train[[3, 7]] * 1.5 + random.normal(0, 0.01, (2, 64))
    distance, index = nearest(np.concatenate([copied, other]), train)
    assert index[:2].tolist() == [3, 7]
    assert distance[:2] == pytest.approx(0, abs=1e-3)
    assert metrics.memorised(distance[2:], reference).value < 0.05
    assert metrics.memorised(distance[:2], reference).value == 1
    assert metrics.memorised(nearest(train, train)[0], reference).value == 1


def test_proportion_is_wilson_s_interval() -> None:
    estimate = metrics.proportion(8, 10, 3)
    assert (estimate.low, estimate.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    none, all_ = metrics.proportion(0, 10, 3), metrics.proportion(10, 10, 3)
    assert (none.low, all_.high) == (0, 1)
    assert none.high == pytest.approx(0.2775, abs=1e-4)


def test_median_and_its_interval() -> None:
    estimate = metrics.median(np.arange(100.0)[::-1], 7)
    assert estimate.value == 49.5
    assert (estimate.low, estimate.high, estimate.n, estimate.m) == (39, 60, 100, 7)
    assert metrics.median(np.arange(5.0), 7).low is None


def test_mean_over_classes_adds_squares() -> None:
    mean = metrics.mean_of([Estimate(1, 0.7, 1.3, 10, 5), Estimate(3, 2.6, 3.4, 10, 6)])
    assert (mean.value, mean.n, mean.m) == (2, 20, 11)
    assert (mean.low, mean.high) == pytest.approx((1.75, 2.25))
    assert metrics.mean_of([Estimate(1, 0.7, 1.3, 10, 5), Estimate(3, n=10, m=6)]).low is None


def test_probe_gives_a_rare_class_its_due() -> None:
    random = np.random.default_rng(5)
    centres = random.normal(size=(2, 200))

    def draw(label: int, count: int) -> np.ndarray:
        return centres[label] + random.normal(0, 1.5, (count, 200))

    probe = Probe(np.concatenate([draw(0, 200), draw(1, 10)]), np.repeat([0, 1], [200, 10]))
    assert (probe(draw(0, 200)) == 0).mean() > 0.9
    assert (probe(draw(1, 200)) == 1).mean() > 0.9
