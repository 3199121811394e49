"""Reading images and masks, whatever their pixel format, through Pillow.

An image is kept as it was decoded, one to four bytes a pixel, and converted where it is cut: whole ones in 8-bit RGB
beside it would take several times that. Not covered: floating-point and 32-bit images, multi-page files (the first page
is read), colour profiles (ignored).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from components import decoding
from components.crop.budget import PIXELS
from components.crop.window import Box
from components.decoding import TooLarge, Undecodable

EXTENSIONS = frozenset({"bmp", "gif", "jpeg", "jpg", "png", "ppm", "pgm", "tif", "tiff", "webp"})

_SIXTEEN_BIT = {"I;16", "I;16B", "I;16L", "I;16N"}
# Pixels that are converted at once, and the bytes that this takes.
_STRIP, _WORK = 1 << 20, 24 << 20
# EXIF orientation → how the pixels are turned to be displayed.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(Exception):
    """An image that cannot be used; the message says why and what to do, without the file's name."""


def is_image(path: str) -> bool:
    """Whether the file's extension is that of an image that is read here."""
    return path.rpartition(".")[2].lower() in EXTENSIONS


@dataclass(frozen=True)
class Picture:
    """A decoded image, seen as it is displayed: EXIF orientation applied, 8-bit RGB."""

    stored: Image.Image  #: as the file has it
    orientation: int  #: EXIF's, 1 to 8

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as displayed."""
        width, height = self.stored.size
        return (height, width) if self.orientation > 4 else (width, height)

    @property
    def width(self) -> int:
        return self.size[0]

    @property
    def height(self) -> int:
        return self.size[1]

    def crop(self, box: Box) -> Image.Image:
        """The part in `box`, which lies inside, in RGB.

        16-bit values are divided by 256, transparent pixels are laid over white, palettes and CMYK are converted.
        """
        part = self.part(box)
        if part.mode in _SIXTEEN_BIT or part.mode == "I":
            return Image.fromarray((np.asarray(part).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
        if part.has_transparency_data:
            rgba = part.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return part.convert("RGB")

    def part(self, box: Box) -> Image.Image:
        """The part in `box` with its pixels as they are stored."""
        part = self.stored.crop(_stored_box(box, *self.stored.size, self.orientation))
        return part.transpose(_TURNS[self.orientation]) if self.orientation in _TURNS else part

    def strips(self) -> Iterator[tuple[int, int]]:
        """First row and the one after the last of strips, from the top to the bottom, of a million pixels each."""
        rows = max(1, _STRIP // self.width)
        return ((top, min(top + rows, self.height)) for top in range(0, self.height, rows))

    def shrunk(self, side: int) -> Image.Image:
        """The whole in RGB, its longest side `side` pixels at most."""
        scale = min(1.0, side / max(self.size))
        # Blocks of whole pixels first, strip by strip: a large one is never whole in RGB.
        factor = max(1, int(0.5 / scale))
        small = Image.new("RGB", (-(-self.width // factor), -(-self.height // factor)))
        rows = max(1, _STRIP // self.width // factor) * factor
        for top in range(0, self.height, rows):
            strip = self.crop((0, top, self.width, min(top + rows, self.height)))
            small.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
        return small.resize((max(1, round(self.width * scale)), max(1, round(self.height * scale))))


def _stored_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """Where `box` of the displayed image lies in the stored one of `width` × `height`."""
    x0, y0, x1, y1 = box
    if orientation > 4:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in (2, 3, 7, 8):
        x0, x1 = width - x1, width - x0
    if orientation in (3, 4, 6, 7):
        y0, y1 = height - y1, height - y0
    return x0, y0, x1, y1


def displayed_size(path: Path) -> tuple[int, int]:
    """Width and height as displayed (EXIF orientation applied), from the header alone.

    Raises:
        Unreadable: when it is no image or is too large to be one.
    """
    with _refused(), decoding.opened(path) as image:
        return decoding.displayed_size(image)


@contextmanager
def picture(path: Path, beside: int = 0) -> Iterator[Picture]:
    """The image at `path`, in memory as long as the context lasts; waits until there is room for it.

    Args:
        beside: bytes that will be needed beside it.

    Raises:
        Unreadable: when it is no image, truncated, too large, or of a pixel format not covered.
    """
    with _refused(), decoding.opened(path) as image:
        needed = decoding.peak(image)
    with PIXELS.hold(needed + _WORK + beside):
        read = _decoded(path, "RGB")
        try:
            if read.stored.mode.startswith("F"):
                raise Unreadable("floating-point pixels; save it with 8 or 16 bits a channel")
            yield read
        finally:
            # Whoever still refers to it, its pixels go before others come.
            read.stored.close()


def read_mask(path: Path) -> np.ndarray:
    """A binary mask as displayed: boolean, height × width, true where the defect is.

    In a mask of two values all but zero is the defect; in one of more values, as smoothed or
    JPEG-compressed masks have, the upper half of the range is.

    Raises:
        Unreadable: as `picture`, and for a mask of several low values, which would be class numbers.
    """
    read = _decoded(path, "L")
    deep = _is_deep(read.stored)
    half = 1 << (15 if deep else 7)
    counts = np.zeros(2 * half, np.int64)
    for top, bottom in read.strips():
        counts += np.bincount(_values(read, top, bottom).ravel(), minlength=2 * half)
    there = np.flatnonzero(counts)
    highest = int(there[-1]) if len(there) else 0
    if highest < half and not np.isin(there, (0, highest)).all():
        raise Unreadable(
            f"not a binary mask: several values, none above {highest}; write 0 for good and {2 * half - 1} for "
            "defect, one mask for each class"
        )
    lowest = half if highest >= half else 1
    mask = np.empty((read.height, read.width), bool)
    for top, bottom in read.strips():
        np.greater_equal(_values(read, top, bottom), lowest, out=mask[top:bottom])
    read.stored.close()
    return mask


def mask_memory(path: Path) -> int:
    """Bytes that `read_mask` takes at most, what it returns included.

    Raises:
        Unreadable: as `displayed_size`.
    """
    with _refused(), decoding.opened(path) as image:
        return max(decoding.peak(image), decoding.kept(image) + image.width * image.height) + _WORK


def _decoded(path: Path, mode: str) -> Picture:
    """The image, decoded; its parts will be converted to `mode`."""
    with _refused(), decoding.opened(path) as image:
        size, orientation = decoding.displayed_size(image), decoding.orientation(image)
        if not _is_deep(image):
            decoding.convert(Image.new(image.mode, (1, 1)), mode)
        read = Picture(decoding.decode(image), orientation)
    if read.size != size:
        raise Unreadable("its header and its pixels say different sizes; replace it or remove it")
    if image.mode == "I":
        lowest, highest = cast(tuple[int, int], image.getextrema())
        if lowest < 0 or highest > 0xFFFF:
            raise Unreadable("32-bit pixels; save it with 8 or 16 bits a channel")
    return read


@contextmanager
def _refused() -> Iterator[None]:
    try:
        yield
    except TooLarge as error:
        raise Unreadable(f"{error}; cut it into smaller images") from None
    except Undecodable as error:
        raise Unreadable(f"{error}; replace it or remove it") from None


def _values(read: Picture, top: int, bottom: int) -> np.ndarray:
    """Rows of a mask: uint8 or uint16."""
    part = read.part((0, top, read.width, bottom))
    return np.asarray(part).astype(np.uint16) if _is_deep(part) else np.asarray(part.convert("L"))


def _is_deep(image: Image.Image) -> bool:
    return image.mode in _SIXTEEN_BIT or image.mode == "I"
