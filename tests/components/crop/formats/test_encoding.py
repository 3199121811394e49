"""Masks as run lengths, held against COCO's own encoder; what would take memory without end is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from components.crop.formats import labelme, shapes
from components.crop.formats.polygons import polygon_instance
from components.crop.formats.reading import Wrong


@pytest.mark.parametrize("at_once", [40, 1 << 22])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.9, 1.0])
def test_run_lengths_are_those_of_cocos_encoder(at_once: int, density: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_AT_ONCE", at_once)
    random = np.random.default_rng(0)
    for _ in range(40):
        width, height = (int(side) for side in random.integers(1, 40, 2))
        x, y = int(random.integers(width)), int(random.integers(height))
        part = random.random((height - y, width - x)) < density
        whole = np.zeros((height, width), np.uint8, order="F")
        whole[y:, x:] = part
        assert shapes.encoded(part, (x, y), (width, height)) == coco_mask.encode(whole)


def test_circles_hold_the_pixels_whose_middle_they_hold() -> None:
    random = np.random.default_rng(0)
    for _ in range(60):
        width, height = (int(side) for side in random.integers(5, 40, 2))
        centre, edge = ((float(x), float(y)) for x, y in random.uniform(0, (width, height), (2, 2)))
        x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
        inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= math.dist(centre, edge) ** 2
        if inside.any():
            found = labelme._circle("dent", centre, edge, (width, height))
            assert found.rle == coco_mask.encode(np.asfortranarray(inside, np.uint8))


def test_a_circle_of_any_size_is_cut_off_by_the_image() -> None:
    """Powers of such numbers ended in an OverflowError."""
    assert labelme._circle("dent", (0.0, 0.0), (1e200, 0.0), (5, 4)).area == 20
    with pytest.raises(Wrong, match="empty"):
        labelme._circle("dent", (1e300, 1e300), (1e300, 1e300), (5, 4))


def test_an_outline_without_end_is_refused() -> None:
    zigzag = [value for i in range(1500) for value in (i % 2 * 3000.0, i / 2)]
    with pytest.raises(Wrong, match=r"an outline of 4,.* pixels, at most 2,000,000 are read; draw it with fewer"):
        polygon_instance("dent", [zigzag], (3000, 3000))


def test_a_mask_of_noise_is_refused() -> None:
    mask = np.zeros((2100, 1000), bool)
    mask[::2] = True
    with pytest.raises(Wrong, match="its mask is noise, of more than 1,000,000 runs"):
        shapes.mask_instance("dent", mask, (0, 0), (1000, 2100))
