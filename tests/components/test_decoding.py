"""One opener of pictures: what it does not read, what it bounds, and what damage ends in."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from components import decoding
from components.artifacts import Crop
from components.crop.images import Unreadable, displayed_size, read_mask
from components.decoding import Undecodable
from components.errors import UserError
from tests.bench.pictures import bomb
from tests.components.crop.pictures import read_rgb
from tests.conftest import ROOT

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 96 96\n%%EndComments\nshowpage\n%%EOF\n"


def _crop(name: str) -> Crop:
    return Crop(name, "t", "dent", "s", (0, 0, 8, 8), (0, 0, 4, 4), mask_file_name=name)


def _load_images(path: Path) -> object:
    from components.train.data import load_images

    return load_images(path.parent, [_crop(path.name)])


def _load_masks(path: Path) -> object:
    from components.train.data import load_masks

    return load_masks(path.parent, [_crop(path.name)], 8)


def _compared(path: Path) -> object:
    from components.evaluate.folders import _batches

    return list(_batches([path]))


def _evaluated(path: Path) -> object:
    from components.evaluate.crops import read

    return read([path], 8)


def _nearest(path: Path) -> object:
    from pipelines.generation.nearest import _read

    return _read(path, 8)


#: Whatever in the program is given a picture of others.
READERS: dict[str, Callable[[Path], object]] = {
    **{"crop": read_rgb, "mask": read_mask, "size": displayed_size, "evaluate": _evaluated, "--images": _compared},
    **{"train": _load_images, "train's masks": _load_masks, "generate": _nearest},
}


@pytest.mark.parametrize("reader", READERS)
def test_a_picture_starts_no_program(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    # Pillow looks for it once.
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    (tmp_path / "a.png").write_bytes(POSTSCRIPT)
    with pytest.raises((Unreadable, UserError), match=r"not an image that can be read \(BMP, GIF, JPEG, PNG, PPM"):
        READERS[reader](tmp_path / "a.png")
    assert not (tmp_path / "ran").exists()


def test_pictures_are_opened_in_one_place() -> None:
    found = [
        str(path.relative_to(ROOT))
        for folder in ("components", "pipelines")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"Image\.open\(|import open\b.*PIL", path.read_text(encoding="utf-8"))
    ]
    assert found == ["components/decoding.py"]


@pytest.mark.parametrize("form", ["DDS", "ICO", "TGA", "PCX", "SGI", "IM", "JPEG2000"])
def test_a_file_of_another_format_is_said_to_be_none_that_is_read(form: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, form)
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    for read in (displayed_size, read_rgb, read_mask):
        with pytest.raises(Unreadable, match=r"not an image that can be read \(BMP, .*WEBP\), or damaged; replace it"):
            read(tmp_path / "a.png")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _with_profile() -> bytes:
    """A PNG with an empty colour profile after its pixels."""
    good = bomb(4, 4, 2)
    return good[:-12] + _chunk(b"iCCP", b"") + good[-12:]


def _with_tag_of_type(tag: int, kind: int) -> bytes:
    """A TIFF in which one tag has another type."""
    buffer = io.BytesIO()
    Image.new("L", (16, 16), 7).save(buffer, "TIFF", compression="tiff_lzw")
    data = bytearray(buffer.getvalue())
    (directory,) = struct.unpack_from("<I", data, 4)
    for entry in range(*struct.unpack_from("<H", data, directory)):
        place = directory + 2 + 12 * entry
        if struct.unpack_from("<H", data, place) == (tag,):
            struct.pack_into("<H", data, place + 2, kind)
    return bytes(data)


DAMAGED = {
    "a profile after the pixels": _with_profile(),
    # Of those types, texts, fractions and numbers with a point among them.
    **{
        f"TIFF's tag {tag} of type {kind}": _with_tag_of_type(tag, kind)
        for tag in (256, 258, 273, 278)
        for kind in (2, 5, 7, 11)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_ends_in_a_message_whatever_the_decoder_raises(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DAMAGED[name])
    ended = []
    for read in (displayed_size, read_rgb, read_mask):
        try:
            read(tmp_path / "a.png")
        except Unreadable as error:
            ended.append(str(error))
    assert all("; replace it or remove it" in said or "too large" in said for said in ended)
    assert ended or "tag 258" in name  # how wide a pixel is may be given as any number


@pytest.mark.parametrize("form", ["TIFF", "JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_of_every_orientation_are_read_as_displayed(form: str, orientation: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    from components.crop.images import picture

    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (6, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, form, exif=exif)
    with Image.open(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image).convert("RGB")
    assert displayed_size(path) == upright.size == ((80, 48) if orientation < 5 else (48, 80))
    assert read_rgb(path).tobytes() == upright.tobytes()
    box = (3, 5, 21, 40)
    with picture(path) as read:
        assert read.crop(box).tobytes() == upright.crop(box).tobytes()


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [3, 6, 7])
def test_uncompressed_tiffs_of_every_mode_are_turned(mode: str, orientation: int, tmp_path: Path) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    values = np.random.default_rng(0).integers(0, 256, (48, 80), np.uint8)
    plain = Image.fromarray(values.astype(np.uint16) << 8) if mode == "I;16" else Image.fromarray(values).convert(mode)
    plain.save(tmp_path / "plain.png" if mode not in ("CMYK", "1") else tmp_path / "plain.tif")
    plain.save(tmp_path / "a.tif", exif=exif)
    [upright] = tmp_path.glob("plain.*")
    with Image.open(upright) as image:
        image.getexif()[0x0112] = orientation
        ImageOps.exif_transpose(image).save(tmp_path / f"b{upright.suffix}")
    expected = read_rgb(tmp_path / f"b{upright.suffix}")
    assert displayed_size(tmp_path / "a.tif") == expected.size
    assert read_rgb(tmp_path / "a.tif").tobytes() == expected.tobytes()


def test_a_mask_whose_pixels_have_no_brightness_is_refused(tmp_path: Path) -> None:
    Image.new("LAB", (40, 30)).save(tmp_path / "a.tif")
    assert read_rgb(tmp_path / "a.tif").size == (40, 30)
    with pytest.raises(Unreadable, match=r"conversion from LAB to RGB not supported.*; replace it or remove it"):
        read_mask(tmp_path / "a.tif")


def test_a_long_line_scan_is_read(tmp_path: Path) -> None:
    lines = np.zeros((80_000, 16), np.uint8)
    lines[70_000:70_010, 3:9] = 255
    Image.fromarray(lines).save(tmp_path / "a.tif")
    assert displayed_size(tmp_path / "a.tif") == (16, 80_000)
    assert read_mask(tmp_path / "a.tif").sum() == 60


def test_errors_that_are_not_the_files_pass(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(4, 4, 2))
    with pytest.raises(KeyboardInterrupt), decoding.opened(tmp_path / "a.png"):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), decoding.opened(tmp_path / "a.png"):
        raise ZeroDivisionError
    with pytest.raises(Undecodable, match=r"cannot be read \(No such file"):
        decoding.read(tmp_path / "b.png")
