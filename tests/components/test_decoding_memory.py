"""What pictures may take in memory: known before they are decoded, refused beyond a limit, shared by threads."""

from __future__ import annotations

import base64
import io
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components import decoding
from components.crop.images import Unreadable, displayed_size, read_mask
from tests.bench.pictures import bomb
from tests.components.crop.pictures import one_by_one, read_rgb
from tests.conftest import ROOT


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
        (one_by_one(_saved("JPEG", subsampling=0)), 10),
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
