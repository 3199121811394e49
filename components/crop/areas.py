"""Areas of an image that are cut: around its defects, and without any.

Functions of one image's annotations and the settings. Not covered: which of the areas are kept (`plan`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from components.crop.annotations import AnnotatedImage, Defect
from components.crop.config import CropConfig
from components.crop.window import Box, tiles_over, window_around

# Places tried for each defect-free crop, after which the image is taken to have no room for it.
_TRIES = 40


def fraction(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends on the seed and on `parts` alone."""
    digest = hashlib.sha256("\0".join((str(seed), *parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def joined(defects: Sequence[Defect], most: int) -> list[Defect]:
    """The defects of one class and kind (masks, boxes) whose boxes are at most `most` pixels apart as one each.

    The area of boxes that overlap counts once for each.
    """
    apart: list[Defect] = []
    for defect in defects:
        united = defect
        # A larger box may be near others, hence again.
        while near := [other for other in apart if _belong_together(other, united, most)]:
            apart = [other for other in apart if other not in near]
            for other in near:
                united = Defect(united.defect, _around(other.box, united.box), other.area + united.area, united.mask)
        apart.append(united)
    return apart


def _belong_together(a: Defect, b: Defect, most: int) -> bool:
    if (a.defect, a.mask) != (b.defect, b.mask):
        return False
    return all(max(a.box[i], b.box[i]) - min(a.box[i + 2], b.box[i + 2]) <= most for i in (0, 1))


def _around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def windows_for(config: CropConfig, defect: Defect, size: tuple[int, int]) -> Iterator[Box]:
    """The windows that show `defect` of an image of `size`: one, or tiles over a large one.

    Tiles are at the image's own resolution and hold `min_area` pixels of the defect each, one at least.
    """
    whole = window_around(defect.box, *size, config.resolution, config.context, config.min_context)
    if config.large == "reduce" or whole[2] - whole[0] == config.resolution:
        yield whole
        return
    tiles = tiles_over(defect.box, *size, config.resolution)
    pixels = defect.mask.read() if defect.mask is not None and len(tiles) > 1 else None
    for tile in tiles:
        x0, y0, x1, y1 = inside(defect.box, tile)
        area = (x1 - x0) * (y1 - y0) if pixels is None else np.count_nonzero(pixels[y0:y1, x0:x1])
        if len(tiles) == 1 or area >= max(1, config.min_area):
            yield tile


def inside(box: Box, window: Box) -> Box:
    """The part of `box` that lies in `window`, where they overlap."""
    return max(box[0], window[0]), max(box[1], window[1]), min(box[2], window[2]), min(box[3], window[3])


def normal_windows(config: CropConfig, image: AnnotatedImage) -> list[Box]:
    """At most `normal_per_image` windows of `image` without a defect of any class, no two of them half the same.

    At the image's own resolution, at places that depend on its path, its defects and `split_seed` alone. An image
    smaller than a window has one where it is good.
    """
    side, (width, height) = config.resolution, image.size
    found: list[Box] = []
    for number in range(config.normal_per_image * _TRIES):
        if len(found) == config.normal_per_image:
            break
        u, v = (fraction(config.split_seed, "normal", image.path, axis, str(number)) for axis in "xy")
        left, top = _place(u, width, side), _place(v, height, side)
        window = left, top, left + side, top + side
        # A reflection may show what lies outside it.
        small = side > min(width, height)
        free = not image.defects if small else all(_shared(d.box, window) == 0 for d in image.defects)
        if free and all(2 * _shared(other, window) < side * side for other in found):
            found.append(window)
    return found


def _place(u: float, extent: int, side: int) -> int:
    return int(u * (extent - side + 1)) if extent >= side else (extent - side) // 2


def _shared(a: Box, b: Box) -> int:
    x0, y0, x1, y1 = inside(a, b)
    return max(0, x1 - x0) * max(0, y1 - y0)
