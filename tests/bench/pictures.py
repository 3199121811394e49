"""How much memory pictures take: ``python -m tests.bench.pictures``.

Small files that unpack to nearly as many pixels as are read, and large genuine ones: each cut, and read as a mask, by a
process of its own; data sets of several, by the whole step; and the decoders of Pillow beside what is expected of
them (`components.decoding.peak`).
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from components import decoding
from components.crop.config import CropConfig
from components.crop.images import Unreadable, picture, read_mask
from components.crop.regions import regions
from components.crop.step import crop
from components.crop.window import cut_image, cut_mask
from components.memory import peak_of_running

#: Just below Pillow's limit of 179 million pixels.
SIDE = 13_300


def bomb(width: int, height: int, colours: int, bits: int = 8) -> bytes:
    """A PNG of one colour; `colours` is PNG's colour type, a palette's with transparency."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    row = b"\0" + bytes((width * bands * bits + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    palette = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0\1") if colours == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def genuine(width: int, height: int) -> Image.Image:
    """A smooth RGB picture with some texture."""
    across, down = np.arange(width, dtype=np.uint8), np.arange(height, dtype=np.uint16)[:, None]
    red = (across + down).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(band) for band in (red, red // 2, (across * 7) ^ red)])


def cut(path: Path) -> None:
    """The whole of an image as one crop."""
    with picture(path) as image:
        side = max(image.size)
        cut_image(image, (0, 0, side, side), 512)


def mask(path: Path) -> None:
    """A mask, its pieces, and the whole of it as one crop."""
    pixels = read_mask(path)
    regions(pixels, 3)
    side = max(pixels.shape)
    cut_mask(pixels, (0, 0, side, side), 512)


def step(folder: Path) -> None:
    """The crop step on a data set."""
    with tempfile.TemporaryDirectory() as out:
        crop(CropConfig(resolution=64), str(folder), "r", Path(out) / "crops", Path(out) / "report.html")


def decode(path: Path) -> None:
    """Pillow's decoder alone, beside what is expected of it."""
    with decoding.opened(path) as image:
        before, pixels, expected = _peak(), image.width * image.height, decoding.peak(image)
        decoding.decode(image)
        # What is mapped into memory, not read, would seem to take none.
        np.asarray(image.crop((0, 0, image.width, 1)))
    took = (_peak() - before) / pixels
    print(f"{image.format} {image.mode}: {took:.1f} bytes a pixel, {expected / pixels:.1f} expected", end=", ")


WORK: dict[str, Callable[[Path], None]] = {"cut": cut, "mask": mask, "step": step, "decode": decode}


def measure(what: str, path: Path, label: str) -> None:
    """One line: what a process of its own said and took."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.pictures", what, str(path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    print(f"{label} | {what} | {done.stdout.splitlines()[-1]}", flush=True)


def data_set(folder: Path, content: bytes, images: int) -> Path:
    """`images` copies of one file with a box in each, for both sides of the split."""
    folder.mkdir()
    for i in range(images):
        (folder / f"b{i}.png").write_bytes(content)
    lines = [f"b{i}.png,dent,10,10,60,60" for i in range(images)]
    (folder / "a.csv").write_text("\n".join(["image,class,x0,y0,x1,y1", *lines]) + "\n")
    return folder


def _peak() -> int:
    # What getrusage says holds for the process that started this one, too.
    return peak_of_running(os.getpid())


def child(what: str, path: Path) -> None:
    """Do it, and print what it took."""
    started = time.perf_counter()
    try:
        WORK[what](path)
    except Unreadable as error:
        print(error, end=", ")
    print(f"{time.perf_counter() - started:.1f} s | {_peak() / 1e6:.0f} MB")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="pictures-") as temporary:
        folder = Path(temporary)
        bombs = {
            "palette of 1 bit with transparency": bomb(SIDE, SIDE, 3, 1),
            "RGBA": bomb(SIDE, SIDE, 6),
            "RGB": bomb(SIDE, SIDE, 2),
        }
        for name, content in bombs.items():
            (folder / "a.png").write_bytes(content)
            for what in ("cut", "mask"):
                measure(what, folder / "a.png", f"{name}, {len(content):,} bytes")
        for name in ("palette of 1 bit with transparency", "RGBA"):
            measure("step", data_set(folder / name, bombs[name], 8), f"8 × {name}")
        genuine(16_000, 10_000).save(folder / "line.tif")
        measure("cut", folder / "line.tif", "genuine TIFF, 16,000 × 10,000")
        genuine(8_000, 8_000).save(folder / "square.jpg")
        measure("cut", folder / "square.jpg", "genuine JPEG, 8,000 × 8,000")
        for file, save in KINDS.items():
            save(genuine(8_000, 5_000), folder / file)
            measure("decode", folder / file, file)


KINDS: dict[str, Callable[[Image.Image, Path], None]] = {
    "baseline.jpg": lambda image, path: image.save(path),
    "progressive.jpg": lambda image, path: image.save(path, progressive=True, subsampling=0),
    "progressive-420.jpg": lambda image, path: image.save(path, progressive=True, subsampling=2),
    "palette.gif": lambda image, path: image.convert("P").save(path),
    "rgb.png": lambda image, path: image.save(path, compress_level=1),
    "rows.tif": lambda image, path: image.save(path, compression="tiff_deflate"),
    "one-strip.tif": lambda image, path: image.save(path, compression="tiff_deflate", tiffinfo={278: image.height}),
    "turned.tif": lambda image, path: image.save(path, compression="tiff_deflate", tiffinfo={274: 6}),
    "rgb.ppm": lambda image, path: image.save(path),
    "lossy.webp": lambda image, path: image.save(path, method=0),
    "lossless.webp": lambda image, path: image.save(path, lossless=True, method=0, quality=0),
}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
