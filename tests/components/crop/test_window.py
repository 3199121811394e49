from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.crop import window
from components.crop.window import Box, box_in_crop, cut, cut_image, cut_mask, window_around

RESOLUTIONS = st.sampled_from([32, 64, 128, 512])
CONTEXTS = st.floats(0, 4)


@st.composite
def boxed_images(draw: st.DrawFn) -> tuple[int, int, Box]:
    width, height = draw(st.integers(1, 900)), draw(st.integers(1, 900))
    x0, y0 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return width, height, (x0, y0, draw(st.integers(x0 + 1, width)), draw(st.integers(y0 + 1, height)))


@given(boxed_images(), RESOLUTIONS, CONTEXTS)
def test_a_window_is_square_contains_the_box_and_stays_inside(
    image: tuple[int, int, Box], resolution: int, context: float
) -> None:
    width, height, box = image
    x0, y0, x1, y1 = window_around(box, width, height, resolution, context)
    side = x1 - x0
    assert side == y1 - y0 >= resolution
    # Without what floating point makes of 115 × 4.4.
    assert side >= round(max(box[2] - box[0], box[3] - box[1]) * (1 + 2 * context), 9)
    assert x0 <= box[0]
    assert y0 <= box[1]
    assert x1 >= box[2]
    assert y1 >= box[3]
    for low, high, extent in ((x0, x1, width), (y0, y1, height)):
        if side <= extent:
            assert 0 <= low < high <= extent
        else:
            assert low <= 0 < extent <= high


@given(boxed_images(), RESOLUTIONS, CONTEXTS)
def test_the_box_in_the_crop_is_inside_it_and_not_empty(
    image: tuple[int, int, Box], resolution: int, context: float
) -> None:
    width, height, box = image
    window = window_around(box, width, height, resolution, context)
    x0, y0, x1, y1 = box_in_crop(box, window, resolution)
    assert 0 <= x0 < x1 <= resolution
    assert 0 <= y0 < y1 <= resolution


def test_a_defect_far_from_the_edges_is_centred() -> None:
    assert window_around((290, 390, 310, 410), 640, 640, 64, 0.25) == (268, 368, 332, 432)


def test_at_an_edge_the_window_is_shifted_not_padded() -> None:
    assert window_around((0, 630, 10, 640), 640, 640, 64, 0.25) == (0, 576, 64, 640)


def test_a_large_defect_widens_the_window_by_its_context() -> None:
    x0, _, x1, _ = window_around((100, 100, 200, 140), 640, 640, 64, 0.25)
    assert x1 - x0 == 150


def test_a_cut_inside_is_the_very_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 90, 3), dtype=np.uint8)
    part = cut_image(Image.fromarray(pixels), (10, 20, 74, 84), 64)
    np.testing.assert_array_equal(np.asarray(part), pixels[20:84, 10:74])


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_small_image_is_whole_in_its_crop_and_reflected_around(width: int, height: int) -> None:
    pixels = np.random.default_rng(width * 41 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    window = window_around((0, 0, 1, 1), width, height, 64, 0.25)
    part = np.asarray(cut(Image.fromarray(pixels), window))
    assert part.shape == (64, 64, 3)
    left, top = -window[0], -window[1]
    np.testing.assert_array_equal(part[top : top + height, left : left + width], pixels)
    if width > 1 and left + width < 64:
        np.testing.assert_array_equal(part[top, left + width], pixels[0, width - 2])


def test_a_mask_is_cut_where_the_image_is_and_stays_binary() -> None:
    mask = np.zeros((300, 300), bool)
    mask[100:200, 120:150] = True
    window = window_around((120, 100, 150, 200), 300, 300, 64, 0.25)
    cropped = np.asarray(cut_mask(mask, window, 64))
    assert set(np.unique(cropped)) == {0, 255}
    x0, y0, x1, y1 = box_in_crop((120, 100, 150, 200), window, 64)
    assert not np.delete(cropped, np.s_[y0:y1], axis=0).any()
    assert not np.delete(cropped, np.s_[x0:x1], axis=1).any()
    assert (cropped[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] == 255).all()


@pytest.mark.parametrize("horizontal", [True, False])
def test_a_scratch_of_one_pixel_stays_whole_where_its_crop_is_reduced(horizontal: bool) -> None:
    mask = np.zeros((900, 900), bool)
    mask[451, 100:800] = True
    mask = mask if horizontal else mask.T
    # 14 pixels of the image in one of the crop: between those that taking the nearest would look at.
    cropped = np.asarray(cut_mask(mask, (0, 0, 896, 896), 64)) > 0
    cropped = cropped if horizontal else cropped.T
    assert np.flatnonzero(cropped.any(axis=1)).tolist() == [32]
    assert np.flatnonzero(cropped[32]).tolist() == list(range(100 // 14, 799 // 14 + 1))


def test_a_reduced_mask_is_as_large_as_it_was() -> None:
    y, x = np.mgrid[:400, :400] + 0.5
    mask = (x - 201.3) ** 2 + (y - 187.9) ** 2 < 90**2
    cropped = np.asarray(cut_mask(mask, (0, 0, 400, 400), 64)) > 0
    assert abs(cropped.sum() * (400 / 64) ** 2 / mask.sum() - 1) < 0.02


def test_reduction_is_anti_aliased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    reduced = np.asarray(cut_image(Image.fromarray(stripes), (0, 0, 256, 256), 64))
    assert reduced.min() > 100
    assert reduced.max() < 155


@pytest.mark.parametrize("strip", [1, 300, 1 << 20])
@pytest.mark.parametrize("seed", range(12))
def test_a_reduced_crop_is_the_whole_window_resized_however_few_rows_are_taken_at_once(
    strip: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "_STRIP", strip)
    random = np.random.default_rng(seed)
    width, height = (int(side) for side in random.integers(1, 150, 2))
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
    place = window_around((0, 0, width, height), width, height, 32, 0.1)
    whole = window.cut(image, place).resize((32, 32), Image.Resampling.LANCZOS)
    assert cut_image(image, place, 32).tobytes() == whole.tobytes()
