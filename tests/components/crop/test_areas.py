from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.crop.annotations import AnnotatedImage, Defect
from components.crop.areas import inside, joined, normal_windows, windows_for
from components.crop.config import CropConfig
from components.crop.plan import plan_crops
from components.crop.window import Box, tiles_over

SIZE = (400, 300)


@dataclass(frozen=True)
class Pixels:
    """A mask in memory."""

    name: str
    boxes: tuple[Box, ...]

    def read(self) -> np.ndarray:
        mask = np.zeros(SIZE[::-1], bool)
        for x0, y0, x1, y1 in self.boxes:
            mask[y0:y1, x0:x1] = True
        return mask

    def memory(self) -> int:
        return SIZE[0] * SIZE[1]


def defect(box: Box, name: str = "dent", mask: Pixels | None = None) -> Defect:
    return Defect(name, box, (box[2] - box[0]) * (box[3] - box[1]), mask)


@given(st.integers(1, 700), st.integers(1, 700), st.data(), st.sampled_from([32, 64, 128]))
def test_tiles_cover_the_box_at_native_resolution_and_overlap(
    width: int, height: int, data: st.DataObject, side: int
) -> None:
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = x0, y0, data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    tiles = tiles_over(box, width, height, side)
    missing = np.ones((height, width), bool)
    for left, top, right, bottom in tiles:
        assert (right - left, bottom - top) == (side, side)
        assert left >= min(0, width - side)
        assert top >= min(0, height - side)
        missing[max(0, top) : bottom, max(0, left) : right] = False
    assert not missing[box[1] : box[3], box[0] : box[2]].any()
    for axis in (0, 1):
        starts = sorted({tile[axis] for tile in tiles})
        assert all(b - a <= side - side // 4 for a, b in pairwise(starts))
        assert (len(starts) == 1) == (box[axis + 2] - box[axis] <= side)


def test_a_defect_that_fits_is_one_window_at_native_resolution_with_the_context_there_is_room_for() -> None:
    large = defect((100, 100, 150, 160))
    reduced = CropConfig(resolution=64, context=0.25)
    (whole,) = windows_for(reduced, large, SIZE)
    assert whole[2] - whole[0] == 90
    (native,) = windows_for(reduced.model_copy(update={"large": "tile"}), large, SIZE)
    assert native[2] - native[0] == 64
    assert inside(large.box, native) == large.box


def test_surroundings_are_a_fraction_or_pixels_whichever_is_more() -> None:
    small = defect((100, 100, 110, 104))
    for context, pixels, side in ((0.5, 0, 32), (0.5, 20, 50), (4.0, 20, 90)):
        config = CropConfig(resolution=32, context=context, min_context=pixels)
        (window,) = windows_for(config, small, SIZE)
        assert window[2] - window[0] == side


def test_tiles_without_the_defect_are_no_crops() -> None:
    # An L: its box is full, its corner is not.
    mask = Pixels("dent", ((10, 10, 20, 200), (10, 190, 200, 200)))
    corner = Defect("dent", (10, 10, 200, 200), int(mask.read().sum()), mask)
    config = CropConfig(resolution=64, large="tile")
    tiles = list(windows_for(config, corner, SIZE))
    assert all(mask.read()[y0:y1, x0:x1].sum() >= config.min_area for x0, y0, x1, y1 in tiles)
    assert (
        len(tiles) < len(tiles_over(corner.box, *SIZE, 64)) == len(list(windows_for(config, defect(corner.box), SIZE)))
    )


@pytest.mark.parametrize(
    ("boxes", "most", "expected"),
    [
        ([(0, 0, 10, 10), (12, 0, 20, 10)], 2, [(0, 0, 20, 10)]),
        ([(0, 0, 10, 10), (12, 0, 20, 10)], 1, [(0, 0, 10, 10), (12, 0, 20, 10)]),
        # Near in one direction only.
        ([(0, 0, 10, 10), (0, 40, 10, 50)], 3, [(0, 0, 10, 10), (0, 40, 10, 50)]),
        # The third joins the other two, which are far from each other.
        ([(0, 0, 10, 10), (30, 0, 40, 10), (8, 5, 32, 8)], 0, [(0, 0, 40, 10)]),
    ],
)
def test_defects_that_touch_share_a_crop(boxes: list[Box], most: int, expected: list[Box]) -> None:
    assert sorted(d.box for d in joined([defect(box) for box in boxes], most)) == expected


def test_defects_of_other_classes_or_kinds_do_not_join() -> None:
    box = (0, 0, 10, 10)
    apart = [defect(box), defect(box, "scratch"), defect(box, mask=Pixels("dent", (box,)))]
    assert len(joined(apart, 5)) == 3


def test_specks_that_join_are_one_defect_large_enough() -> None:
    specks = tuple(defect((i, 50, i + 2, 52)) for i in range(100, 112, 3))
    images = [AnnotatedImage(f"{i}.png", SIZE, (*specks, defect((10, 10, 40, 40)))) for i in range(20)]
    config = CropConfig(resolution=64, min_area=9)
    assert plan_crops(config, images).left_out == {"dent": {"smaller than 9 pixels": 80}}
    together = plan_crops(config.model_copy(update={"join_boxes": True}), images)
    assert together.left_out == {}
    assert {p.defect.box for p in together.crops} == {(100, 50, 111, 52), (10, 10, 40, 40)}


def test_defect_free_windows_keep_away_from_every_defect_and_from_each_other() -> None:
    image = AnnotatedImage("a.png", SIZE, (defect((150, 100, 250, 200)), defect((0, 0, 5, 5), "speck")))
    config = CropConfig(resolution=64, normal_per_image=6)
    windows = normal_windows(config, image)
    assert len(windows) == 6
    for window in windows:
        assert 0 <= window[0] < window[2] <= SIZE[0]
        assert 0 <= window[1] < window[3] <= SIZE[1]
        for box in (d.box for d in image.defects):
            x0, y0, x1, y1 = inside(box, window)
            assert x0 >= x1 or y0 >= y1
    # More are asked for, the ones before stay.
    assert normal_windows(config.model_copy(update={"normal_per_image": 9}), image)[:6] == windows


def test_an_image_without_room_has_no_defect_free_window() -> None:
    config = CropConfig(resolution=64, normal_per_image=2)
    assert normal_windows(config, AnnotatedImage("a.png", (100, 100), (defect((40, 40, 60, 60)),))) == []
    small = AnnotatedImage("b.png", (50, 300), (defect((10, 10, 20, 20)),))
    assert normal_windows(config, small) == []
    assert len(normal_windows(config, AnnotatedImage("b.png", (50, 300)))) == 2
    assert len(normal_windows(config, AnnotatedImage("b.png", (50, 60)))) == 1
