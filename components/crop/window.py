"""Where a crop lies and how it is cut: pure functions of boxes and images.

A window is square, at the image's own resolution, never stretched. Coordinates are pixels of the
image as displayed; boxes are half-open: ``x0 <= x < x1``. Not covered: reading and writing.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from PIL import Image, ImageFilter

Box = tuple[int, int, int, int]

# Pixels that are resized at once.
_STRIP = 1 << 20


def window_around(
    box: Box, width: int, height: int, resolution: int, context: float = 0.0, min_context: int = 0
) -> Box:
    """The square window for the defect at `box` in an image of `width` × `height`.

    Its side is the larger of `resolution` and the box's longest side with surroundings on both: `context`, a
    fraction of it, or `min_context` pixels, whichever is more. It is centred on the box and shifted to stay inside
    the image. Where the image is smaller than the window, the window reaches past it and contains all of it in that
    direction.
    """
    x0, y0, x1, y1 = box
    longest = max(x1 - x0, y1 - y0)
    side = max(resolution, math.ceil(longest + 2 * max(longest * context, min_context)))
    left = _start(x0, x1, side, width)
    top = _start(y0, y1, side, height)
    return left, top, left + side, top + side


def tiles_over(box: Box, width: int, height: int, resolution: int) -> list[Box]:
    """Windows of side `resolution` that cover `box` together, evenly spaced, row by row.

    Neighbours share a quarter of their side or more. One window, centred as by `window_around`, in a direction in
    which the box is no longer than that.
    """
    x0, y0, x1, y1 = box
    return [
        (left, top, left + resolution, top + resolution)
        for top in _starts(y0, y1, resolution, height)
        for left in _starts(x0, x1, resolution, width)
    ]


def _starts(low: int, high: int, side: int, extent: int) -> list[int]:
    if high - low <= side:
        return [_start(low, high, side, extent)]
    most = side - side // 4
    steps = math.ceil((high - low - side) / most)
    return [low + (high - side - low) * i // steps for i in range(steps + 1)]


def _start(low: int, high: int, side: int, extent: int) -> int:
    centred = (low + high - side) // 2
    return min(max(centred, min(0, extent - side)), max(0, extent - side))


def box_in_crop(box: Box, window: Box, resolution: int) -> Box:
    """`box` in pixels of the crop that `window` becomes at `resolution`, rounded outwards."""
    scale = resolution / (window[2] - window[0])
    x0, y0 = (math.floor((box[i] - window[i]) * scale) for i in (0, 1))
    x1, y1 = (math.ceil((box[i + 2] - window[i]) * scale) for i in (0, 1))
    return max(0, x0), max(0, y0), min(resolution, x1), min(resolution, y1)


class Croppable(Protocol):
    """An image of which parts are cut."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def crop(self, box: Box) -> Image.Image:
        """The part in `box`, which lies inside: mode RGB, L or F."""


class _Mask:
    """A boolean mask as an image of 0 and 255; `mode` is L or F."""

    def __init__(self, mask: np.ndarray, mode: str) -> None:
        self._mask, self._mode = mask, mode
        self.height, self.width = mask.shape

    def crop(self, box: Box) -> Image.Image:
        x0, y0, x1, y1 = box
        return Image.fromarray(self._mask[y0:y1, x0:x1].astype(np.uint8) * 255).convert(self._mode)


def cut(image: Croppable, window: Box) -> Image.Image:
    """The part of `image` in `window`; what lies outside is the image's reflection."""
    x0, y0, x1, y1 = window
    inside = (max(0, x0), max(0, y0), min(image.width, x1), min(image.height, y1))
    part = image.crop(inside)
    return _reflected(part, (inside[0] - x0, x1 - inside[2]), (inside[1] - y0, y1 - inside[3]))


def _reflected(part: Image.Image, across: tuple[int, int], down: tuple[int, int]) -> Image.Image:
    """`part` with its reflection on the left and right, above and below: as many pixels as said."""
    if not any((*across, *down)):
        return part
    pads = [down, across] + [(0, 0)] * (len(part.getbands()) > 1)
    return Image.fromarray(np.pad(np.asarray(part), pads, mode="reflect"))


def _reduced(image: Croppable, window: Box, resolution: int, filter: Image.Resampling) -> Image.Image:
    """What `cut` gives, resized; strip by strip, as Pillow resizes: along the rows first, which is all in 8 bits.

    A window may be many times the image, or nearly all of one that is as large as memory allows.
    """
    x0, y0, x1, y1 = window
    left, top, right, bottom = max(0, x0), max(0, y0), min(image.width, x1), min(image.height, y1)
    rows = max(1, _STRIP // (x1 - x0))
    narrow: Image.Image | None = None
    for row in range(top, bottom, rows):
        strip = image.crop((left, row, right, min(row + rows, bottom)))
        strip = _reflected(strip, (left - x0, x1 - right), (0, 0)).resize((resolution, strip.height), filter)
        if narrow is None:
            narrow = Image.new(strip.mode, (resolution, bottom - top))
        narrow.paste(strip, (0, row - top))
    assert narrow is not None
    return _reflected(narrow, (0, 0), (top - y0, y1 - bottom)).resize((resolution, resolution), filter)


def cut_memory(window: Box, resolution: int) -> int:
    """Bytes that `cut_image` takes at most, beside the image."""
    side = window[2] - window[0]
    return 12 * resolution * max(side, resolution) + 16 * max(_STRIP, side)


def cut_image(image: Croppable, window: Box, resolution: int) -> Image.Image:
    """The crop of an RGB image: cut, then resized once, with anti-aliasing, where the sizes differ."""
    if window[2] - window[0] == resolution:
        return cut(image, window)
    return _reduced(image, window, resolution, Image.Resampling.LANCZOS)


def cut_mask(mask: np.ndarray, window: Box, resolution: int) -> Image.Image:
    """The crop of a boolean mask (height × width) as an 8-bit image of 0 and 255.

    Where it is reduced, a pixel is set that the mask covers by half or more. Where the mask is too thin for
    that, every pixel is set that it touches, so that no scratch is lost or broken into dots.
    """
    if window[2] - window[0] == resolution:
        return cut(_Mask(mask, "L"), window)
    # Floating point: one pixel of a hundred is nothing in 8 bits.
    covered = np.asarray(_reduced(_Mask(mask, "F"), window, resolution, Image.Resampling.BOX))
    inside = Image.fromarray((covered >= 127.5).astype(np.uint8) * 255)
    beside = np.asarray(inside.filter(ImageFilter.MaxFilter(3)))
    return Image.fromarray(np.where((covered > 0) & (beside == 0), np.uint8(255), np.asarray(inside)))
