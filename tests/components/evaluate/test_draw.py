"""What is kept of a checkpoint's images: little, whatever their number and size."""

from __future__ import annotations

import numpy as np

from components.evaluate.draw import PAIRS, Pair, _add
from components.evaluate.pictures import pairs, reduced
from components.evaluate.real import Copy


def test_the_nearest_pairs_of_all_batches_stay_no_larger_than_they_are_shown() -> None:
    random = np.random.default_rng(0)
    distances = random.permutation(40) / 40
    images = np.stack([np.full((256, 256, 3), i, np.uint8) for i in range(40)])
    kept: list[Pair] = []
    for start in range(0, 40, 16):
        part = slice(start, start + 16)
        copies = [Copy(i, 0) for i in range(40)][part]
        _add(kept, distances[part], images[part], copies, "bar")
    nearest = np.argsort(distances)[:PAIRS]
    assert [pair.copy.crop for pair in kept] == nearest.tolist()
    assert [int(pair.image[0, 0, 0]) for pair in kept] == nearest.tolist()
    assert all(pair.image.shape == (128, 128, 3) for pair in kept)
    assert all(pair.image.base is None or pair.image.base.nbytes < images[:2].nbytes for pair in kept)
    # Beside crops of any size.
    assert pairs([pair.image for pair in kept], list(images[:PAIRS])).size[0] > PAIRS * 128


def test_small_images_are_left_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    same = reduced(images)
    assert np.array_equal(same, images)
    assert not np.shares_memory(same, images)
    assert reduced(np.zeros((0, 256, 256, 3), np.uint8)).shape == (0, 128, 128, 3)
