"""Images as the crop step reads them, whole, and files that few programs write."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image

from components.crop.images import picture


def read_rgb(path: Path) -> Image.Image:
    """All of an image, as crops are cut from it."""
    with picture(path) as image:
        return image.crop((0, 0, *image.size))


def one_by_one(data: bytes, rounds: int = 1) -> bytes:
    """A sequential JPEG with the header of `data` and, for each component by itself, a scan that ends early."""
    start = b"\xff\xda"
    scans = [start + struct.pack(">HBBBBBB", 8, 1, c, 0x11 if c > 1 else 0, 0, 63, 0) for c in (1, 2, 3)]
    return data[: data.index(start)] + b"".join(scans) * rounds + b"\xff\xd9"
