"""Reading images and masks, whatever their pixel format, through Pillow.

Not covered: floating-point and 32-bit images, multi-page files (the first page is read), colour
profiles (ignored). Pillow's guard against decompression bombs stays on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from components.decoding import DAMAGED

EXTENSIONS = frozenset({"bmp", "gif", "jpeg", "jpg", "png", "ppm", "pgm", "tif", "tiff", "webp"})

# EXIF orientations that exchange width and height.
_TURNED = {5, 6, 7, 8}
_ORIENTATION = 0x0112
_SIXTEEN_BIT = {"I;16", "I;16B", "I;16L", "I;16N"}


class Unreadable(Exception):
    """An image that cannot be used; the message says why and what to do, without the file's name."""


def is_image(path: str) -> bool:
    """Whether the file's extension is that of an image that is read here."""
    return path.rpartition(".")[2].lower() in EXTENSIONS


def displayed_size(path: Path) -> tuple[int, int]:
    """Width and height as displayed (EXIF orientation applied), from the header alone.

    Raises:
        Unreadable: when it is no image or is too large to be one.
    """
    with _opened(path) as image:
        # The PNG reader's own getexif would decode all pixels to look behind them.
        turned = Image.Image.getexif(image).get(_ORIENTATION) in _TURNED
        return (image.height, image.width) if turned else image.size


def read_rgb(path: Path) -> Image.Image:
    """The image as displayed, 8-bit RGB.

    16-bit values are divided by 256, transparent pixels are laid over white, palettes and CMYK are
    converted.

    Raises:
        Unreadable: when it is no image, truncated, too large, or of a pixel format not covered.
    """
    with _opened(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _SIXTEEN_BIT or upright.mode == "I":
            grey = _sixteen_bit(upright)
            return Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB")
        if upright.mode.startswith("F"):
            raise Unreadable("floating-point pixels; save it with 8 or 16 bits a channel")
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return upright.convert("RGB")


def read_mask(path: Path) -> np.ndarray:
    """A binary mask as displayed: boolean, height × width, true where the defect is.

    In a mask of two values all but zero is the defect; in one of more values, as smoothed or
    JPEG-compressed masks have, the upper half of the range is.

    Raises:
        Unreadable: as `read_rgb`, and for a mask of several low values, which would be class numbers.
    """
    with _opened(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _SIXTEEN_BIT or upright.mode == "I":
            values, half = _sixteen_bit(upright), 1 << 15
        else:
            values, half = np.asarray(upright.convert("L")), 1 << 7
    highest = int(values.max(initial=0))
    if highest >= half:
        return values >= half
    if not np.isin(values, (0, highest)).all():
        raise Unreadable(
            f"not a binary mask: several values, none above {highest}; write 0 for good and {2 * half - 1} for "
            "defect, one mask for each class"
        )
    return values > 0


def _sixteen_bit(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 0xFFFF):
        raise Unreadable("32-bit pixels; save it with 8 or 16 bits a channel")
    return values.astype(np.uint16)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise Unreadable(f"refused as too large ({error}); cut it into smaller images") from None
    except Image.UnidentifiedImageError:
        raise Unreadable("not an image that can be read, or damaged; replace it or remove it") from None
    except DAMAGED as error:
        raise Unreadable(f"cannot be decoded ({error}); replace it or remove it") from None
