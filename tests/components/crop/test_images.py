from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from components.crop.images import Unreadable, displayed_size, read_mask
from tests.components.crop.pictures import read_rgb

RED = (255, 0, 0)


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_their_range_not_clipped(tmp_path: Path, extension: str) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    image = read_rgb(saved(tmp_path / f"deep.{extension}", Image.fromarray(values)))
    expected = np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(np.asarray(image), expected)
    assert len(np.unique(np.asarray(image))) == 256


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK"])
def test_every_common_mode_becomes_the_same_grey(tmp_path: Path, mode: str) -> None:
    white = Image.new("RGB", (8, 6), "white").convert(mode)
    image = read_rgb(saved(tmp_path / "image.tif", white))
    assert (image.mode, image.size) == ("RGB", (8, 6))
    assert np.asarray(image).min() >= 253


def test_cmyk_jpeg_keeps_its_colour(tmp_path: Path) -> None:
    cmyk = Image.new("RGB", (16, 16), RED).convert("CMYK")
    pixel = np.asarray(read_rgb(saved(tmp_path / "cmyk.jpg", cmyk, quality=95)))[8, 8]
    assert pixel[0] > 240
    assert pixel[1:].max() < 15


def test_a_palette_keeps_its_colours(tmp_path: Path) -> None:
    palette = Image.new("RGB", (4, 4), RED).quantize(8)
    assert read_rgb(saved(tmp_path / "palette.png", palette)).getpixel((1, 1)) == RED


def test_transparent_pixels_are_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (*RED, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    read = read_rgb(saved(tmp_path / "alpha.png", image))
    assert [read.getpixel((0, 0)), read.getpixel((1, 0))] == [RED, (255, 255, 255)]


def test_a_turned_image_is_read_as_displayed(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 20), "white")
    image.paste(RED, (0, 0, 15, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to display
    path = saved(tmp_path / "turned.jpg", image, exif=exif, quality=95)
    assert displayed_size(path) == (20, 30)
    read = read_rgb(path)
    assert read.size == (20, 30)
    green = np.asarray(read)[:, :, 1]
    assert green[3, 10] < 60
    assert green[27, 10] > 200


@pytest.mark.parametrize("content", [b"no image", b""])
def test_what_is_not_an_image_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for look in (displayed_size, read_rgb, read_mask):
        with pytest.raises(Unreadable, match="not an image"):
            look(tmp_path / "a.png")


def test_an_image_with_another_format_s_ending_is_read_as_what_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (8, 4), RED).save(tmp_path / "a.png", format="BMP")
    assert displayed_size(tmp_path / "a.png") == (8, 4)
    assert read_rgb(tmp_path / "a.png").getpixel((0, 0)) == RED


def test_an_image_of_60000_pixels_a_side_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )
    for look in (displayed_size, read_rgb, read_mask):
        with pytest.raises(Unreadable, match=r"refused as too large .*3600000000 pixels.*; cut it into smaller images"):
            look(tmp_path / "a.png")


@pytest.mark.parametrize("extension", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_image_is_refused(tmp_path: Path, extension: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path / f"a.{extension}", Image.fromarray(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(Unreadable):
        read_rgb(path)


def test_floating_point_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif", Image.fromarray(np.zeros((4, 4), np.float32)))
    with pytest.raises(Unreadable, match="8 or 16 bits"):
        read_rgb(path)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "bomb.png", Image.new("1", (200, 200)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Unreadable, match="too large"):
        read_rgb(path)


@pytest.mark.parametrize("high", [1, 7, 255])
def test_in_a_mask_of_two_values_all_but_zero_is_the_defect(tmp_path: Path, high: int) -> None:
    expected = np.eye(9, dtype=bool)
    path = saved(tmp_path / "mask.png", Image.fromarray(expected.astype(np.uint8) * high))
    np.testing.assert_array_equal(read_mask(path), expected)


def test_a_one_bit_mask_and_a_sixteen_bit_mask(tmp_path: Path) -> None:
    expected = np.eye(9, dtype=bool)
    one = saved(tmp_path / "one.png", Image.fromarray(expected))
    deep = saved(tmp_path / "deep.png", Image.fromarray(expected.astype(np.uint16) * 65535))
    np.testing.assert_array_equal(read_mask(one), expected)
    np.testing.assert_array_equal(read_mask(deep), expected)


def test_the_noise_of_a_smoothed_mask_is_not_defect(tmp_path: Path) -> None:
    mask = np.array([[0, 3, 120, 128, 255]], np.uint8)
    np.testing.assert_array_equal(
        read_mask(saved(tmp_path / "mask.png", Image.fromarray(mask))), [[False, False, False, True, True]]
    )


def test_class_numbers_are_not_taken_for_a_binary_mask(tmp_path: Path) -> None:
    path = saved(tmp_path / "mask.png", Image.fromarray(np.array([[0, 1, 2]], np.uint8)))
    with pytest.raises(Unreadable, match="not a binary mask"):
        read_mask(path)
