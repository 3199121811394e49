"""Polygons as pixels. A pixel belongs to one by the rule of COCO's own library (pycocotools), which fills them here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from components.crop.budget import PIXELS
from components.crop.formats.reading import Wrong
from components.crop.formats.shapes import SLACK, Instance, Rle, Size, encoded, rle_instance, span

# How far from a whole number, in pixels, fractions with five decimals put a whole coordinate.
_ROUNDING = 0.02
# Pixels of the outlines of one defect, and the bytes that COCO's library takes to fill one of them.
_LONGEST, _PER_PIXEL = 2_000_000, 120


def polygon_instance(defect: str, polygons: Sequence[Sequence[float]], size: Size) -> Instance:
    """A defect outlined by polygons, each x, y, x, y, …; together where there are several.

    Outlines so thin that they hold no pixel have the area 0.

    Raises:
        Wrong: for a polygon of fewer than three points, outside the image by more than a pixel, or without end.
    """
    clipped, outline = [], 0.0
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise Wrong(f"a polygon of {len(polygon)} numbers; x y of three or more points are needed")
        points = np.asarray(polygon, float).reshape(-1, 2)
        if (points < -SLACK).any() or (points > np.asarray(size) + SLACK).any():
            far = points[((points < -SLACK) | (points > np.asarray(size) + SLACK)).any(axis=1)][0]
            raise Wrong(
                f"polygon point {far[0]:g} {far[1]:g} leaves the image, which is {size[0]} × {size[1]} pixels; "
                "correct or remove it"
            )
        kept = np.clip(points, 0, size)
        outline += float(np.abs(np.roll(kept, -1, axis=0) - kept).max(axis=1).sum())
        clipped.append(kept.ravel().tolist())
    if outline > _LONGEST:
        raise Wrong(f"an outline of {outline:,.0f} pixels, at most {_LONGEST:,} are read; draw it with fewer points")
    with PIXELS.hold(int(outline) * _PER_PIXEL):
        rle = coco_mask.merge([_filled(polygon, size) for polygon in clipped])
    if coco_mask.area(rle):
        return rle_instance(defect, rle)
    corners = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in clipped])
    spans = [span(corners[:, i].min(), corners[:, i].max(), size[i]) for i in (0, 1)]
    return Instance(defect, (spans[0][0], spans[1][0], spans[0][1], spans[1][1]), 0)


def _filled(polygon: Sequence[float], size: Size) -> Rle:
    if not _is_contour(polygon):
        return coco_mask.frPyObjects([polygon], size[1], size[0])[0]
    corners = np.round(np.reshape(polygon, (-1, 2))).astype(int)
    # In the part of the image around it.
    last = np.asarray(size) - 1
    low, high = np.minimum(corners.min(axis=0), last), np.minimum(corners.max(axis=0), last)
    width, height = (high - low + 1).tolist()
    corners = corners - low
    inside = coco_mask.frPyObjects([(corners + 0.5).ravel().tolist()], height, width)[0]
    pixels = coco_mask.decode(inside)
    for start, step in zip(corners, np.roll(corners, -1, axis=0) - corners):
        length = int(np.abs(step).max())
        x, y = start[:, None] + np.outer(np.sign(step), np.arange(length + 1))
        pixels[np.minimum(y, height - 1), np.minimum(x, width - 1)] = 1
    return encoded(pixels, (int(low[0]), int(low[1])), size)


def _is_contour(polygon: Sequence[float]) -> bool:
    """Whether this is the chain of a mask's outermost pixels, as OpenCV's findContours gives it to many writers.

    Its points are pixels, not edges: read as edges, half a pixel would be lost all around, a twelfth of a defect of 40
    pixels. Only such a chain has whole coordinates throughout and runs along rows, columns and diagonals alone; one
    without diagonals may as well follow edges, and is taken to.
    """
    points = np.reshape(polygon, (-1, 2))
    whole = np.round(points)
    if np.abs(points - whole).max() > _ROUNDING:
        return False
    steps = np.abs(np.roll(whole, -1, axis=0) - whole)
    diagonal = (steps[:, 0] == steps[:, 1]) & (steps[:, 0] > 0)
    return bool(((steps == 0).any(axis=1) | diagonal).all() and diagonal.any())
