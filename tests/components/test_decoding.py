"""One opener of pictures: what it does not read, what it bounds, and what damage ends in."""

from __future__ import annotations

import base64
import io
import os
import re
import struct
import subprocess
import sys
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


def test_memory_that_runs_out_is_not_the_pictures_fault(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(8000, 8000, 6))
    script = (
        "import resource, sys; from pathlib import Path; from components import decoding\n"
        "resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))\n"
        "decoding._KEPT['RGBA'] = 0\n"
        "try: decoding.read(Path(sys.argv[1]))\n"
        "except MemoryError: print('no memory')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script.replace("600", "250"), str(tmp_path / "a.png")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout == "no memory\n", done.stderr


# -------------------------------------------------------------------------------------------------- memory


def _saved(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((600, 800, 3), np.uint8)).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "bytes_a_pixel"),
    [
        (_saved("PNG"), 4),
        (_saved("JPEG"), 4),
        (_saved("JPEG", progressive=True, subsampling=0), 10),
        (_saved("TIFF"), 4),
        (_saved("TIFF", compression="tiff_deflate", tiffinfo={278: 600}), 7),
        (_saved("TIFF", compression="tiff_deflate", tiffinfo={278: 60}), 4.3),
        (_saved("TIFF", tiffinfo={274: 6}), 8),
        (_saved("WEBP"), 16),
    ],
)  # fmt: skip
def test_what_decoding_takes_is_known_before(data: bytes, bytes_a_pixel: float) -> None:
    """Those that `python -m tests.bench.pictures` measures."""
    with decoding.opened(io.BytesIO(data)) as image:
        assert decoding.peak(image) == pytest.approx(800 * 600 * bytes_a_pixel)


def test_one_number_of_bits_stands_for_all_samples_of_a_tiff() -> None:
    data = bytearray(_saved("TIFF", compression="tiff_deflate", tiffinfo={278: 600}))
    (directory,) = struct.unpack_from("<I", data, 4)
    for entry in range(*struct.unpack_from("<H", data, directory)):
        place = directory + 2 + 12 * entry
        if struct.unpack_from("<H", data, place) == (258,):
            struct.pack_into("<IHH", data, place + 4, 1, 8, 0)
    with decoding.opened(io.BytesIO(bytes(data))) as image:
        assert decoding.peak(image) == 800 * 600 * 7


def test_what_would_take_too_much_memory_is_refused_by_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for form in ("webp", "png"):
        (tmp_path / f"a.{form}").write_bytes(_saved(form))
    monkeypatch.setattr(decoding, "MOST", 800 * 600 * 5)
    assert read_rgb(tmp_path / "a.png").size == (800, 600)
    for look in (displayed_size, read_rgb, read_mask):
        with pytest.raises(Unreadable, match=r"too large \(800 × 600 pixels take .*; cut it into smaller"):
            look(tmp_path / "a.webp")


def test_a_side_has_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(1_000_001, 1, 0))
    with pytest.raises(Unreadable, match="at most 1000000 a side"):
        displayed_size(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("what", "colours", "bits", "most"),
    [("cut", 3, 1, 2.0), ("cut", 6, 8, 5.0), ("cut", 2, 8, 5.0), ("mask", 3, 1, 3.0), ("mask", 6, 8, 6.0)],
)
def test_a_picture_takes_little_more_memory_than_its_pixels(
    what: str, colours: int, bits: int, most: float, tmp_path: Path
) -> None:
    """Whole ones in RGB beside it, and over white, took 13 to 20 bytes a pixel."""
    side = 6000
    peaks = []
    for length in (64, side):
        (tmp_path / "a.png").write_bytes(bomb(length, length, colours, bits))
        command = [sys.executable, "-m", "tests.bench.pictures", what, str(tmp_path / "a.png")]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        peaks.append(float(done.stdout.rpartition("|")[2].split()[0]) * 1e6)
    # Beside what strips of it take while they are converted.
    assert peaks[1] - peaks[0] < most * side * side + 60e6


def test_images_that_are_decoded_at_once_share_the_memory(tmp_path: Path) -> None:
    from tests.bench.pictures import data_set

    script = (
        "import sys; from pathlib import Path; from tests.bench import pictures as bench\n"
        "from components.crop import budget, cutting\n"
        "cutting.cores = lambda: 8; budget.PIXELS._most = int(sys.argv[2])\n"
        "bench.child('step', Path(sys.argv[1]))"
    )
    folder = data_set(tmp_path / "data", bomb(4000, 4000, 6), 8)
    peaks = []
    for most in (1 << 20, 1 << 40):
        command = [sys.executable, "-c", script, str(folder), str(most)]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        peaks.append(float(done.stdout.rpartition("|")[2].split()[0]) * 1e6)
    assert peaks[0] < peaks[1] - 2 * 4 * 4000 * 4000


#: 10,249 × 16,223 pixels in 76 bytes: found by the fuzzer, since libwebp takes its canvases when it opens a file.
CANVAS = base64.b64decode(
    "UklGRlQAAABXRUJQVlA4IEgAAAAAABACAJ0BKgnoX3/r5CYlnAAqgP9eCCl8+gAA/v0gtLIDdn5SN7H/xwvoX3/r5KoHjTs0VMcL6F9/6+SqB407"
    "NFTm9uCk0MAAAA=="
)


def _webp(**options: object) -> bytes:
    return _saved("WEBP", **options)


def _canvas_of(data: bytes, name: bytes, at: int, canvas: bytes) -> bytes:
    """`data` with the size in its chunk `name` made another."""
    place = data.index(name) + 8 + at
    return data[:place] + canvas + data[place + len(canvas) :]


@pytest.mark.parametrize(
    "data",
    [
        CANVAS,
        _canvas_of(_webp(lossless=True), b"VP8L", 1, b"\xff\xff\xff\x0f"),
        _canvas_of(_webp(exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"), b"VP8X", 4, b"\xff\x3f\x00\xff\x3f\x00"),
        _canvas_of(_webp(exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"), b"VP8 ", 6, b"\xff\x3f\xff\x3f"),
    ],
    ids=["found", "lossless", "extended", "inner"],
)
def test_a_webp_is_refused_before_its_canvases_are_taken(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    monkeypatch.setattr(Image, "open", taken)
    with pytest.raises(decoding.TooLarge, match=r"pixels take [\d.]+ GB to decode from this kind of WEBP"):
        decoding.read(io.BytesIO(data))


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
