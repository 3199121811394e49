"""Features on disk and in blocks: the same numbers, and no more memory for more images."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from components.evaluate import measure, metrics
from components.evaluate.config import EvaluateConfig
from components.evaluate.feature_file import FeatureFile
from components.evaluate.measure import ImageSet, RealFeatures
from components.evaluate.metrics.rows import AT_ONCE

WIDTH = 12


def features(seed: int, count: int, shift: float = 0.0) -> np.ndarray:
    """As a network gives them: float64 that float32 holds."""
    return np.random.default_rng(seed).normal(shift, 1, (count, WIDTH)).astype(np.float32).astype(np.float64)


def on_disk(path: Path, rows: np.ndarray) -> FeatureFile:
    file = FeatureFile(path, rows.shape[1])
    for start in range(0, len(rows), 100):
        file.append(rows[start : start + 100])
    return file


@pytest.mark.parametrize(
    "chosen",
    [slice(None), slice(3, 200), slice(0, 0), np.array([7, 3, 3, 4, 5]), np.arange(10, 0, -1), np.empty(0, int)],
    ids=["all", "slice", "none", "mixed", "backwards", "empty"],
)
def test_a_file_is_indexed_like_an_array(tmp_path: Path, chosen: slice | np.ndarray) -> None:
    rows = features(0, 250)
    file = on_disk(tmp_path / "rows", rows)
    assert (len(file), file.shape) == (250, (250, WIDTH))
    assert np.array_equal(file[chosen], rows[chosen])
    joined = metrics.Joined([rows[:40], on_disk(tmp_path / "rest", rows[40:])])
    assert joined.shape == (250, WIDTH)
    assert np.array_equal(joined[chosen], rows[chosen])


#: Of generated and real images, each by its definition on whole arrays.
DEFINITIONS: dict[str, tuple[Callable[..., float], Callable[[np.ndarray, np.ndarray], float]]] = {
    "kernel": (
        lambda g, r: metrics.kernel_distance(g, r).value,
        lambda g, r: _off_diagonal(_kernel(g, g)) + _off_diagonal(_kernel(r, r)) - 2 * _kernel(g, r).mean(),
    ),
    "frechet": (lambda g, r: metrics.frechet_distance(g, r).value, metrics.frechet_distance_of_covariances),
    "precision": (
        lambda g, r: metrics.manifold(g, r).precision,
        lambda g, r: float((_away(g, r) < np.sort(_away(r, r), axis=1)[:, 5]).any(1).mean()),
    ),
    "recall": (
        lambda g, r: metrics.manifold(g, r).recall,
        lambda g, r: float((_away(r, g) < np.sort(_away(g, g), axis=1)[:, 5]).any(1).mean()),
    ),
    "density": (
        lambda g, r: metrics.manifold(g, r).density,
        lambda g, r: float((_away(g, r) < np.sort(_away(r, r), axis=1)[:, 5]).sum(1).mean() / 5),
    ),
    "coverage": (
        lambda g, r: metrics.manifold(g, r).coverage,
        lambda g, r: float((_away(r, g).min(1) < np.sort(_away(r, r), axis=1)[:, 5]).mean()),
    ),
    "diversity": (lambda g, r: metrics.diversity(g).value, lambda g, r: _off_diagonal(1 - _cosine(g, g))),
    "in clusters": (lambda g, r: _clusters(g, r).value, lambda g, r: _spread(g, _cosine(g, r).argmax(1))),
    "inception score": (lambda g, r: metrics.inception_score(g)[0], lambda g, r: _score(g)),
}


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray((a @ b.T / WIDTH + 1) ** 3)


def _off_diagonal(matrix: np.ndarray) -> float:
    return float((matrix.sum() - np.trace(matrix)) / (len(matrix) * (len(matrix) - 1)))


def _away(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.norm(a[:, None] - b[None], axis=2))


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a @ b.T / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1))


def _clusters(generated: np.ndarray, train: np.ndarray) -> measure.Estimate:
    found = metrics.diversity_in_clusters(generated, train)
    assert found is not None
    return found


def _spread(rows: np.ndarray, cluster: np.ndarray) -> float:
    shared = [rows[cluster == c] for c in np.unique(cluster) if (cluster == c).sum() > 1]
    return float(np.mean([_off_diagonal(1 - _cosine(part, part)) for part in shared]))


def _score(logits: np.ndarray) -> float:
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return math.exp((p * np.log(p / p.mean(0))).sum(1).mean())


@pytest.mark.parametrize("name", DEFINITIONS)
def test_many_blocks_on_disk_give_what_the_definition_gives(tmp_path: Path, name: str) -> None:
    generated, real = features(1, 2 * AT_ONCE + 90, 0.3), features(2, AT_ONCE + 20)
    ours, definition = DEFINITIONS[name]
    found = ours(on_disk(tmp_path / "generated", generated), on_disk(tmp_path / "real", real))
    assert found == pytest.approx(definition(generated, real), rel=1e-9)
    assert found == ours(generated, real)


def test_measuring_more_images_takes_no_more_memory(tmp_path: Path) -> None:
    real = {"bar": ImageSet({"lite0": features(3, 40)}, features(4, 40)[:, 0], features(5, 40)[:, 0])}
    known = RealFeatures(real, real, features(3, 40), {"lite0": lambda rows: np.tile(rows, 20)})

    def peak(count: int) -> int:
        rows = features(6, count)
        drawn = {"bar": ImageSet({"lite0": on_disk(tmp_path / str(count), rows)}, rows[:, 0], rows[:, 1])}
        del rows
        tracemalloc.start()
        measure.of_checkpoint(drawn, known, EvaluateConfig(images_per_class=count, kid_subset_size=40))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(16 * AT_ONCE) < 1.3 * peak(2 * AT_ONCE)
