"""Opening pictures: the one place where Pillow is given a file to read.

Seven formats are read, named to Pillow, since some of its others start programs (PostScript starts Ghostscript), read
other files, or fail in ways of their own. What a header asks for in memory is worked out, and refused, before anything
is decoded. Pillow's guard against decompression bombs stays on. Not covered: what pixels mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from pathlib import Path
from typing import IO, BinaryIO

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from components import jpeg_scans
from components.errors import UserError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
#: Bytes of memory that decoding one picture may take: 179 million pixels (Pillow's limit) of a PNG or a baseline JPEG,
#: 170 million of a TIFF in one strip or a progressive JPEG, 75 million of a WebP.
MOST = 1_200_000_000
#: Scans of a JPEG: decoding goes over the whole picture for each. Programs write 6 to 18; libtiff has the same limit.
MOST_SCANS = 100
#: Pixels of a side: a line-scan camera's images have many lines, each of which takes memory by itself.
LONGEST = 1_000_000

# Bytes that Pillow keeps a pixel in; four in every other mode.
_KEPT = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
# libwebp's canvases and the copies that are made of them.
_WEBP = 16
# Chunks of a WebP file that are looked at.
_CHUNKS = 64
# Decoders that gather all pixels, and copy them, before they are the picture's.
_IN_PYTHON = {"ppm", "ppm_plain", "bmp_rle"}
_TURNED = {5, 6, 7, 8}
_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLES = 0x0112, 258, 262, 277
_ROWS, _TILE_WIDTH, _TILE_LENGTH = 278, 322, 323
_YCBCR = 6


# Pillow's own blocks of 16 MB are kept by the C library for the thread that freed them; larger ones are given back.
Image.core.set_block_size(64 << 20)


class Undecodable(Exception):
    """A picture that cannot be decoded; the message says why, without the file's name and without a remedy."""


class TooLarge(Undecodable):
    """A picture that is refused for its size."""


@contextmanager
def opened(file: Path | BinaryIO, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """A picture of which the header was read. Its pixels are read by `decode`.

    Raises:
        Undecodable: when it is of another format, damaged, or larger than pictures may be.
    """
    with ExitStack() as stack:
        with _failures():
            try:
                # Not by its name: Pillow would map uncompressed pixels into memory, and those of a TIFF image that is
                # to be turned in the wrong order.
                stream = stack.enter_context(file.open("rb")) if isinstance(file, Path) else file
                _check_webp(stream)
                image = Image.open(stream, formats=formats)
                _check(image)
            except MemoryError:
                raise Undecodable("cannot be decoded (its header asks for more memory than there is)") from None
        try:
            with image:
                yield image
        except BaseException:
            # The error's traceback would keep its pixels.
            image.close()
            raise


def decode(image: Image.Image) -> Image.Image:
    """The same picture, its pixels read.

    Raises:
        Undecodable: when it is damaged.
        MemoryError: when there is less memory than `peak`, which is not the picture's fault.
    """
    with _failures():
        if (file := _of_several_scans(image)) and jpeg_scans.more_than(MOST_SCANS, file):
            raise Undecodable(
                f"refused (more than {MOST_SCANS} scans, and decoding goes over the whole picture for each)"
            )
        image.load()
    return image


def read(file: Path | BinaryIO, mode: str = "") -> Image.Image:
    """A picture, decoded, converted to `mode` where one is given.

    Raises:
        Undecodable: as `opened` and `decode`.
    """
    with opened(file) as image:
        decode(image)
        return convert(image, mode) if mode else image


def required(file: Path, mode: str, remedy: str) -> Image.Image:
    """`read`, for who has nothing else to say of a picture that cannot be read than what to do about it.

    Raises:
        UserError: with the file, what is wrong with it, and `remedy`.
    """
    try:
        return read(file, mode)
    except Undecodable as error:
        raise UserError(f"{file}: {error}; {remedy}") from None


def convert(image: Image.Image, mode: str) -> Image.Image:
    """The same picture in another mode.

    Raises:
        Undecodable: when there is no way from its own (CIE L*a*b* has none to grey).
    """
    with _failures():
        return image.convert(mode)


def displayed_size(image: Image.Image) -> tuple[int, int]:
    """Width and height as displayed, before decoding: turned as the EXIF orientation says.

    Raises:
        Undecodable: when the EXIF data are damaged.
    """
    turned = _said(image) in _TURNED
    # Pillow gives a TIFF image's size as it will have turned it, where the orientation is a tag of the image.
    if isinstance(image, TiffImageFile) and image.tag_v2.get(_ORIENTATION) in _TURNED:
        turned = False
    return (image.height, image.width) if turned else image.size


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that the decoded pixels have, asked before decoding; 1 where there is none.

    Raises:
        Undecodable: when the EXIF data are damaged.
    """
    # Pillow turns those of TIFF images itself.
    return 1 if isinstance(image, TiffImageFile) else _said(image)


def _said(image: Image.Image) -> int:
    with _failures():
        # The PNG reader's own getexif would decode all pixels to look behind them.
        found = Image.Image.getexif(image).get(_ORIENTATION)
        return found if isinstance(found, int) and 1 <= found <= 8 else 1


def kept(image: Image.Image) -> int:
    """Bytes of memory that the pixels of a decoded picture take."""
    return image.width * image.height * _KEPT.get(image.mode, 4)


def peak(image: Image.Image) -> int:
    """Bytes of memory that decoding takes at most, by what the header says, asked before; what stays is `kept`.

    Measured with Pillow 12.3 (``python -m tests.bench.pictures``).
    """
    pixels, codec = image.width * image.height, image.tile[0][0] if isinstance(image, ImageFile) and image.tile else ""
    if image.format == "WEBP":
        return pixels * _WEBP
    if isinstance(image, JpegImageFile) and _of_several_scans(image):
        # All coefficients, two bytes each, before the first pixel.
        shares = [across * down for _, across, down, _ in image.layer]
        return kept(image) + 2 * pixels * sum(shares) // max(shares)
    if isinstance(image, TiffImageFile):
        turned = kept(image) if image.tag_v2.get(_ORIENTATION, 1) != 1 else 0
        return kept(image) + max(turned, _strip(image))
    if codec in _IN_PYTHON:
        return kept(image) + 2 * pixels * (4 if image.mode == "I" else len(image.getbands()))
    return kept(image) + (pixels if image.format == "GIF" else 0)


def _of_several_scans(image: Image.Image) -> IO[bytes] | None:
    """The file of a JPEG that is not decoded yet and whose scans libjpeg all reads before the first pixel."""
    if not isinstance(image, JpegImageFile) or image.fp is None:
        return None
    several = image.info.get("progressive") or jpeg_scans.components_of_first(image.fp) < image.layers
    return image.fp if several else None


def _strip(image: TiffImageFile) -> int:
    """Bytes of the strip, or the row of tiles, that libtiff unpacks at once."""
    if all(tile[0] == "raw" for tile in image.tile):
        return 0
    tags = image.tag_v2
    width, height = image.width, image.height
    if tags.get(_ORIENTATION) in _TURNED:
        width, height = height, width
    rows = min(int(tags.get(_ROWS, height)), height)
    if _TILE_LENGTH in tags:
        width, rows = int(tags[_TILE_WIDTH]), int(tags[_TILE_LENGTH])
    said = tags.get(_BITS, (1,))
    # One number of bits may stand for all samples.
    bits = max(said) * max(len(said), int(tags.get(_SAMPLES, 1)), 4 if tags.get(_PHOTOMETRIC) == _YCBCR else 1)
    return ceil(width * rows * bits / 8)


def _check(image: Image.Image) -> None:
    if max(image.size) > LONGEST:
        raise TooLarge(f"refused as too large ({image.width} × {image.height} pixels, at most {LONGEST} a side)")
    _check_memory(image.width, image.height, peak(image), str(image.format))


def _check_memory(width: int, height: int, needed: int, form: str) -> None:
    if needed > MOST:
        raise TooLarge(
            f"refused as too large ({width} × {height} pixels take {needed / 1e9:.1f} GB to decode from this kind of "
            f"{form}, at most {MOST / 1e9:.1f})"
        )


def _check_webp(file: BinaryIO) -> None:
    """Hold a WebP file to its limit before Pillow opens it: libwebp takes its canvases then.

    RFC 9649: the size stands in the chunk of the extended format (section 2.7.1), of lossless (3.4) or lossy pixels
    (RFC 6386, 9.1), which others may come before.
    """
    start = file.tell()
    try:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WEBP":
            return
        for _ in range(_CHUNKS):
            name, length = file.read(4), int.from_bytes(file.read(4), "little")
            body = file.read(min(length, 10))
            width = height = 0
            if name == b"VP8X":
                width, height = (1 + int.from_bytes(body[at : at + 3], "little") for at in (4, 7))
            elif name == b"VP8L":
                bits = int.from_bytes(body[1:5], "little")
                width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
            elif name == b"VP8 ":
                width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
            _check_memory(width, height, width * height * _WEBP, "WEBP")
            if len(name) < 4:
                return
            file.seek(length + length % 2 - len(body), 1)
    finally:
        file.seek(start)


@contextmanager
def _failures() -> Iterator[None]:
    """What a decoder raises is the file's fault, and its decoders let every kind of error through."""
    try:
        yield
    except (Undecodable, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise TooLarge(f"refused as too large ({error})") from None
    except Image.UnidentifiedImageError:
        raise Undecodable(f"not an image that can be read ({', '.join(FORMATS)}), or damaged") from None
    except OSError as error:
        what = "decoded" if error.errno is None else "read"
        raise Undecodable(f"cannot be {what} ({error.strerror or error})") from None
    except Exception as error:
        raise Undecodable(f"cannot be decoded ({error or type(error).__name__})") from None
