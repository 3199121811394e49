"""What the metrics are worth on few images: intervals hold the truth, and planted faults are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.evaluate import metrics
from components.evaluate.pixels import PixelIndex, grey, oriented
from components.evaluate.probe import Probe
from components.nearest import nearest
from tests.components.evaluate.examples import bar, hole

WIDTH = 64


@pytest.mark.parametrize("count", [25, 50])
@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_kernel_distance_interval_covers_the_truth(count: int, shift: float) -> None:
    """In 92 % of 500 draws or more; `pytest -rP` shows how often, and the interval's median width."""
    random = np.random.default_rng(count)
    truth, draws = expected_kernel_distance(WIDTH, shift), 500
    bounds = np.empty((draws, 2))
    for i in range(draws):
        generated, real = random.normal(size=(count, WIDTH)), shift + random.normal(size=(count, WIDTH))
        estimate = metrics.kernel_distance(generated, real)
        bounds[i] = estimate.low, estimate.high
    covered = ((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).mean()
    print(f"n = {count}, truth {truth:.3f}: covered {covered:.1%}, median width {np.median(np.ptp(bounds, 1)):.3f}")
    assert covered >= 0.92


def expected_kernel_distance(width: int, shift: float) -> float:
    """Exactly, for N(0, I) against N(shift, I): moments of x·y up to the third, term by term."""

    def third(first: float, second: float) -> float:
        # x·y with x ~ N(a, I), y ~ N(b, I): mean p = a·b and, given y, variance |y|².
        # E[(1 + s)³] with s normal given y: (1 + μ)³ + 3 (1 + μ) |y|², μ = a·y / d, |y|² / d².
        d, a, b = width, first, second
        length_y = d * (1 + b * b)
        mean = a * b
        variance = a * a / d
        skew_free = (1 + mean) ** 3 + 3 * (1 + mean) * variance
        # E[(1 + μ) |y|²] with μ = a Σ y / d: E|y|² + a / d · E[Σy |y|²].
        joint = (a / d) * (d * (3 * b + b**3) + d * (d - 1) * b * (1 + b * b))
        return skew_free + 3 / d**2 * (length_y + joint)

    return third(0, 0) + third(shift, shift) - 2 * third(0, shift)


def test_the_expectation_used_above_is_right() -> None:
    random = np.random.default_rng(0)
    draws = [
        metrics.kernel_distance(random.normal(size=(1500, 64)), 0.3 + random.normal(size=(1500, 64))).value
        for _ in range(8)
    ]
    assert np.mean(draws) == pytest.approx(expected_kernel_distance(64, 0.3), rel=0.02)


@pytest.fixture(scope="module")
def board_features(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of windows of real circuit boards as 8 × 8 grey levels 0 to 1: float64 ``[300, 64]`` each."""
    random = np.random.default_rng(0)
    sets = []
    for pattern in ("*_test.jpg", "*_temp.jpg"):
        rows = []
        for path in sorted((shared_data / "deeppcb").rglob(pattern))[:60]:
            with Image.open(path) as image:
                for left, top in random.integers(0, 640 - 64, (5, 2)):
                    window = image.convert("L").crop((left, top, left + 64, top + 64)).resize((8, 8))
                    rows.append(np.asarray(window, np.float64).ravel() / 255)
        sets.append(np.stack(rows))
    return sets[0], sets[1] * 0.9  # darker, so that there is a distance to find


def test_kernel_distance_is_unbiased_on_resampled_real_data(board_features: tuple[np.ndarray, np.ndarray]) -> None:
    """The mean over samples of 20 is the value over all 300, which the Fréchet distance's is far from."""
    all_of_them = metrics.kernel_distance(*board_features).value
    random = np.random.default_rng(1)

    def sample() -> tuple[np.ndarray, np.ndarray]:
        first, second = (rows[random.permutation(len(rows))[:20]] for rows in board_features)
        return first, second

    values = np.array([metrics.kernel_distance(*sample()).value for _ in range(2000)])
    assert abs(values.mean() - all_of_them) < 3.5 * values.std() / np.sqrt(len(values))
    frechet = np.mean([metrics.frechet_distance(*sample()).value for _ in range(20)])
    assert frechet > 1.5 * metrics.frechet_distance(*board_features).value


def test_paired_difference_is_sharper_than_two_intervals_and_covers_the_truth() -> None:
    """Two models that draw the same images but for a little noise of their own are equally far away."""
    random = np.random.default_rng(3)
    covered, widths = 0, []
    for _ in range(300):
        real, noise = random.normal(size=(40, WIDTH)), 0.3 + random.normal(size=(30, WIDTH))
        first, second = (metrics.KernelDistance(noise + random.normal(0, 0.1, noise.shape), real) for _ in range(2))
        difference = metrics.kernel_difference(first, second)
        assert difference.value == pytest.approx(first.value - second.value)
        assert difference.low is not None
        assert difference.high is not None
        covered += difference.low <= 0 <= difference.high
        alone = first.estimate()
        assert alone.low is not None
        assert alone.high is not None
        widths.append((difference.high - difference.low) / (alone.high - alone.low))
    assert covered / 300 >= 0.92
    assert np.median(widths) < 0.25


def test_planted_copies_are_found_by_features_and_by_pixels() -> None:
    random = np.random.default_rng(4)
    train, held_out, fresh = (np.stack([bar(random) for _ in range(count)]) for count in (30, 60, 30))
    index = PixelIndex(grey(train))
    reference = index.nearest(grey(held_out))[0]

    copies = np.stack([
        train[3],
        np.rot90(train[7]),
        train[11][:, ::-1],
        np.roll(train[20], (4, -2), (0, 1)),
        np.clip(train[25] + random.normal(0, 4, train[25].shape), 0, 255).astype(np.uint8),
    ])  # fmt: skip
    distances, rows, orientations = index.nearest(grey(copies))
    assert rows.tolist() == [3, 7, 11, 20, 25]
    assert metrics.memorised(distances, reference).value == 1
    assert metrics.memorised(index.nearest(grey(fresh))[0], reference).value < 0.1
    for row, orientation, copy in zip(rows[:3], orientations[:3], copies):
        assert np.abs(oriented(train[row], orientation).astype(int) - copy).mean() < 12

    features = {name: random.normal(size=(count, WIDTH)) for name, count in (("train", 40), ("new", 95))}
    planted = np.concatenate([features["train"][:5] + random.normal(0, 0.01, (5, WIDTH)), features["new"]])
    yardstick = nearest(random.normal(size=(200, WIDTH)), features["train"])[0]
    assert metrics.memorised(nearest(planted, features["train"])[0], yardstick).value >= 0.05
    found = np.argsort(nearest(planted, features["train"])[0])[:5]
    assert sorted(found.tolist()) == [0, 1, 2, 3, 4]


def test_pixel_distance_of_what_is_no_copy_is_large() -> None:
    random = np.random.default_rng(5)
    index = PixelIndex(grey(np.stack([bar(random) for _ in range(10)])))
    assert index.nearest(grey(np.stack([hole(random) for _ in range(10)])))[0].min() > 30
    assert len(index.nearest(np.empty((0, 32, 32), np.float32))[0]) == 0


def test_planted_mode_collapse_is_found() -> None:
    random = np.random.default_rng(6)
    real, held_out = random.normal(size=(60, WIDTH)), random.normal(size=(60, WIDTH))
    one = random.normal(size=WIDTH)
    collapsed = one + random.normal(0, 0.2, (60, WIDTH))
    varied = random.normal(size=(60, WIDTH))
    floor, alive, dead = (metrics.diversity(rows) for rows in (held_out, varied, collapsed))
    assert floor.low is not None
    assert dead.high is not None
    assert alive.high is not None
    assert dead.high < floor.low < alive.high
    assert metrics.manifold(collapsed, real).recall < 0.1 < metrics.manifold(varied, real).recall
    assert metrics.manifold(collapsed, real).coverage < 0.2 < metrics.manifold(varied, real).coverage


def test_diversity_as_written_down() -> None:
    rows = np.random.default_rng(7).normal(0.5, 1, (6, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def mean(of: np.ndarray) -> float:
        return float(np.mean([1 - a @ b for i, a in enumerate(of) for j, b in enumerate(of) if i != j]))

    without = [mean(np.delete(unit, i, 0)) for i in range(6)]
    estimate = metrics.diversity(rows)
    assert estimate.value == pytest.approx(mean(unit))
    assert estimate.high is not None
    half = 2.571 * np.sqrt(5 / 6 * sum((v - np.mean(without)) ** 2 for v in without))  # t, 5 degrees
    assert estimate.high - estimate.value == pytest.approx(half, rel=2e-3)


def test_copies_of_several_training_images_have_no_diversity_within_clusters() -> None:
    random = np.random.default_rng(8)
    train = random.normal(size=(10, WIDTH))
    copies = train[np.arange(40) % 10] + random.normal(0, 1e-3, (40, WIDTH))
    fresh = random.normal(size=(40, WIDTH))
    copied, new = metrics.diversity_in_clusters(copies, train), metrics.diversity_in_clusters(fresh, train)
    assert copied is not None
    assert new is not None
    assert copied.value < 1e-4 < 0.5 < new.value
    assert (copied.n, copied.m) == (40, 10)
    assert metrics.diversity(copies).value > 0.5  # which alone would have seen nothing
    assert metrics.diversity_in_clusters(train, train) is None


def test_planted_label_noise_lowers_class_alignment() -> None:
    random = np.random.default_rng(9)
    centres = random.normal(size=(3, WIDTH))
    labels = np.repeat(np.arange(3), 40)

    def draw(of: np.ndarray) -> np.ndarray:
        return np.asarray(centres[of] + random.normal(0, 0.8, (len(of), WIDTH)))

    probe, asked = Probe(draw(labels), labels), np.repeat(np.arange(3), 30)
    wrong = np.where(np.arange(90) % 3 == 0, (asked + 1) % 3, asked)
    held_out, clean, noisy = (float((probe(draw(drawn)) == asked).mean()) for drawn in (asked, asked, wrong))
    assert held_out > 0.9
    assert abs(clean - held_out) < 0.1
    assert noisy == pytest.approx(2 / 3, abs=0.1)


def test_mean_over_images_has_student_s_interval() -> None:
    estimate = metrics.mean(np.array([1.0, 2.0, 3.0, 4.0]), m=7)
    assert (estimate.value, estimate.n, estimate.m) == (2.5, 4, 7)
    assert estimate.high == pytest.approx(2.5 + 3.182 * np.sqrt(5 / 3) / 2, rel=2e-3)
    assert metrics.mean(np.array([1.0])).low is None
