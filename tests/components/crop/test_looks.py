from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from components.crop.looks import blur_of, flaws, look_at, soft_throughout
from tests.components.crop.pictures import read_rgb


def photograph(seed: int, mean: float = 120, contrast: float = 40) -> Image.Image:
    """Edges in two directions and a little noise."""
    rng = np.random.default_rng(seed)
    blocks = np.repeat(np.repeat(rng.normal(mean, contrast, (12, 12, 1)), 8, 0), 8, 1)
    pixels = (blocks + rng.normal(0, contrast / 20, (96, 96, 3))).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def test_more_blur_reads_more() -> None:
    image = photograph(0).convert("L")
    read = [blur_of(image.filter(ImageFilter.GaussianBlur(radius))) for radius in (0, 0.7, 1, 1.5, 2, 3, 5)]
    assert read == sorted(read)
    assert 0 <= read[0] < 0.35
    assert 0.5 < read[-1] <= 1


def test_motion_in_one_direction_is_blur() -> None:
    image = photograph(0).convert("L")
    assert blur_of(image.filter(ImageFilter.BoxBlur((6, 0)))) > 2 * blur_of(image)


def test_a_plain_image_is_blank_and_nothing_else() -> None:
    plain = Image.new("RGB", (64, 64), (250, 250, 250))
    assert blur_of(plain.convert("L")) == 1
    assert flaws([look_at(plain), look_at(photograph(0))]) == [["blank"], []]


@pytest.mark.parametrize(
    ("poor", "said"),
    [
        (photograph(1).filter(ImageFilter.GaussianBlur(3)), ["blurred"]),
        (photograph(1, mean=4, contrast=9), ["under-exposed"]),
        (photograph(1, mean=252, contrast=9), ["over-exposed"]),
        (photograph(1, mean=128, contrast=4), []),
    ],
)
def test_a_poor_crop_stands_out(poor: Image.Image, said: list[str]) -> None:
    looks = [look_at(photograph(i)) for i in range(9)]
    assert flaws([*looks, look_at(poor)]) == [*[[]] * 9, said]


def test_binary_pictures_are_not_called_badly_exposed() -> None:
    rng = np.random.default_rng(0)
    scans = []
    for _ in range(5):
        pixels = np.repeat(np.repeat(rng.random((12, 12)) < 0.8, 8, 0), 8, 1)
        scans.append(look_at(Image.fromarray(pixels.astype(np.uint8) * 255).convert("RGB")))
    assert flaws(scans) == [[]] * 5


def test_a_data_set_that_is_soft_has_no_crop_that_stands_out() -> None:
    soft = [look_at(photograph(i).filter(ImageFilter.GaussianBlur(3))) for i in range(6)]
    assert soft_throughout(soft)
    assert flaws(soft) == [[]] * 6
    assert not soft_throughout([look_at(photograph(i)) for i in range(6)])


def test_real_boards_and_tiles_are_sharp_and_their_blurred_copies_are_not(shared_data: Path) -> None:
    for pattern in ("deeppcb/*/*/*_test.jpg", "magnetic-tile/MT_Blowhole/Imgs/*.jpg"):
        crops = [read_rgb(path).crop((0, 0, 128, 128)) for path in sorted(shared_data.glob(pattern))[:24]]
        # Some corners show nothing but one colour.
        looks = [look for look in map(look_at, crops) if look.contrast > 60]
        blurred = [look_at(crop.filter(ImageFilter.GaussianBlur(3))) for crop in crops[:3]]
        found = flaws([*looks, *blurred])
        assert not any("blurred" in flaw for flaw in found[: len(looks)])
        assert sum("blurred" in flaw or "blank" in flaw for flaw in found[len(looks) :]) == 3
