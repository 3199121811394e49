"""Images as the crop step reads them, whole."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from components.crop.images import picture


def read_rgb(path: Path) -> Image.Image:
    """All of an image, as crops are cut from it."""
    with picture(path) as image:
        return image.crop((0, 0, *image.size))
