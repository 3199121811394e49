"""Boxes, polygons, circles and run lengths, made into pixels: the geometry that the formats share.

Coordinates are edges of pixels: pixel 0 reaches from 0 to 1. A pixel belongs to a polygon by the rule of
COCO's own library (pycocotools), which rasterises and merges them here. Not covered: reading files.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from pycocotools import mask as coco_mask

from components.crop.annotations import AnnotatedImage, Defect, Problem
from components.crop.formats.reading import Wrong
from components.crop.window import Box

T = TypeVar("T")
Size = tuple[int, int]  #: width and height
Rle = dict[str, Any]  #: pycocotools' compressed run lengths: {"size": [height, width], "counts": bytes}

# How far outside the image, in pixels, a coordinate is taken for rounding and clipped.
_SLACK = 1.0
# How far from a whole number, in pixels, fractions with five decimals put a whole coordinate.
_ROUNDING = 0.02


@dataclass(frozen=True)
class Instance:
    """One annotated defect, before those of a class share their mask."""

    defect: str
    box: Box
    area: int
    rle: Rle | None = None


@dataclass(frozen=True)
class RleMask:
    """All defects of one class in one image, as run lengths (`components.crop.annotations.Mask`)."""

    size: Size
    counts: bytes

    def read(self) -> np.ndarray:
        return coco_mask.decode({"size": [self.size[1], self.size[0]], "counts": self.counts}).astype(bool)


def box_instance(defect: str, edges: Sequence[float], size: Size) -> Instance:
    """A defect of which the box is known: left, top, right, bottom.

    Raises:
        Wrong: as `pixel_box`.
    """
    box = pixel_box(edges, size)
    return Instance(defect, box, (box[2] - box[0]) * (box[3] - box[1]))


def pixel_box(edges: Sequence[float], size: Size) -> Box:
    """The half-open pixel box nearest to left, top, right, bottom, at least one pixel on each side.

    Nearest, not outwards, so that coordinates written with few decimals give the pixels they came from.

    Raises:
        Wrong: when it is empty, when its corners are swapped, or when it leaves the image of `size` by more than a
            pixel.
    """
    said = " ".join(f"{edge:g}" for edge in edges)
    if edges[0] >= edges[2] or edges[1] >= edges[3]:
        raise Wrong(f"box {said} (left, top, right, bottom) is empty or its corners are swapped; correct or remove it")
    low = [edge for edge in edges if edge < -_SLACK]
    if low or edges[2] > size[0] + _SLACK or edges[3] > size[1] + _SLACK:
        raise Wrong(
            f"box {said} (left, top, right, bottom) leaves the image, which is {size[0]} × {size[1]} pixels; "
            "correct or remove it"
        )
    x0, x1 = _span(edges[0], edges[2], size[0])
    y0, y1 = _span(edges[1], edges[3], size[1])
    return x0, y0, x1, y1


def _span(low: float, high: float, extent: int) -> tuple[int, int]:
    first, last = (min(max(math.floor(edge + 0.5), 0), extent) for edge in (low, high))
    if first < last:
        return first, last
    first = min(max(math.floor(low), 0), extent - 1)
    return first, first + 1


def polygon_instance(defect: str, polygons: Sequence[Sequence[float]], size: Size) -> Instance:
    """A defect outlined by polygons, each x, y, x, y, …; together where there are several.

    Outlines so thin that they hold no pixel have the area 0.

    Raises:
        Wrong: for a polygon of fewer than three points, or outside the image by more than a pixel.
    """
    clipped = []
    for polygon in polygons:
        if len(polygon) < 6 or len(polygon) % 2:
            raise Wrong(f"a polygon of {len(polygon)} numbers; x y of three or more points are needed")
        points = np.asarray(polygon, float).reshape(-1, 2)
        if (points < -_SLACK).any() or (points > np.asarray(size) + _SLACK).any():
            far = points[((points < -_SLACK) | (points > np.asarray(size) + _SLACK)).any(axis=1)][0]
            raise Wrong(
                f"polygon point {far[0]:g} {far[1]:g} leaves the image, which is {size[0]} × {size[1]} pixels; "
                "correct or remove it"
            )
        clipped.append(np.clip(points, 0, size).ravel().tolist())
    rle = coco_mask.merge([_filled(polygon, size) for polygon in clipped])
    if coco_mask.area(rle):
        return rle_instance(defect, rle)
    corners = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in clipped])
    spans = [_span(corners[:, i].min(), corners[:, i].max(), size[i]) for i in (0, 1)]
    return Instance(defect, (spans[0][0], spans[1][0], spans[0][1], spans[1][1]), 0)


def _filled(polygon: Sequence[float], size: Size) -> Rle:
    if not _is_contour(polygon):
        return coco_mask.frPyObjects([polygon], size[1], size[0])[0]
    corners = np.round(np.reshape(polygon, (-1, 2))).astype(int)
    inside = coco_mask.frPyObjects([(corners + 0.5).ravel().tolist()], size[1], size[0])[0]
    pixels = coco_mask.decode(inside)
    for start, step in zip(corners, np.roll(corners, -1, axis=0) - corners):
        length = int(np.abs(step).max())
        x, y = start[:, None] + np.outer(np.sign(step), np.arange(length + 1))
        pixels[np.minimum(y, size[1] - 1), np.minimum(x, size[0] - 1)] = 1
    return coco_mask.encode(pixels)


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


def mask_instance(defect: str, pixels: np.ndarray) -> Instance:
    """A defect of which the pixels are known: boolean, height × width of the image.

    Raises:
        Wrong: when no pixel is set.
    """
    return rle_instance(defect, coco_mask.encode(np.asfortranarray(pixels, np.uint8)))


def counts_instance(defect: str, counts: Sequence[int], size: Size) -> Instance:
    """A defect given by COCO's run lengths: background and defect in turn, column by column.

    Raises:
        Wrong: when they do not add up to the pixels of the image, or hold no defect.
    """
    # pycocotools itself shows whatever is in memory where the runs are too few.
    if min(counts, default=-1) < 0 or sum(counts) != size[0] * size[1]:
        raise Wrong(
            f"run lengths of {sum(counts)} pixels for an image of {size[0]} × {size[1]} = {size[0] * size[1]}; "
            "export it again"
        )
    rle = coco_mask.frPyObjects({"size": [size[1], size[0]], "counts": list(counts)}, size[1], size[0])
    return rle_instance(defect, rle)


def rle_instance(defect: str, rle: Rle) -> Instance:
    """A defect given by valid run lengths; its box is that of its pixels.

    Raises:
        Wrong: when they hold no defect.
    """
    area = int(coco_mask.area(rle))
    if not area:
        raise Wrong("the mask is empty; draw the defect or remove the annotation")
    x, y, width, height = (int(v) for v in coco_mask.toBbox(rle))
    return Instance(defect, (x, y, x + width, y + height), area, rle)


def expanded_counts(text: str) -> list[int]:
    """The run lengths in COCO's compressed text: 5 bits and one for "more" a character, from the code of "0" on, each
    number from the third on as the difference to the one before the last (`maskApi.c`, ``rleFrString``).

    Raises:
        Wrong: for characters that it cannot have, or when it is cut short.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise Wrong(f"run lengths with the character {character!r}, which COCO's never have; export it again")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:
            if code & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
        elif shift > 60:
            raise Wrong("run lengths with a number beyond 64 bits; export it again")
    if shift:
        raise Wrong("run lengths that are cut short; export it again")
    return counts


def defects_of(instances: Sequence[Instance], size: Size) -> tuple[Defect, ...]:
    """The instances as defects; those of a class share one mask, which shows all of them, as mask files do."""
    by_class: dict[str, list[Rle]] = defaultdict(list)
    for instance in instances:
        if instance.rle is not None:
            by_class[instance.defect].append(instance.rle)
    masks = {name: RleMask(size, coco_mask.merge(rles)["counts"]) for name, rles in by_class.items()}
    return tuple(Defect(i.defect, i.box, i.area, masks[i.defect] if i.rle is not None else None) for i in instances)


def united(instances: Sequence[Instance], size: Size) -> Instance:
    """Parts of one defect as one, of the first one's class."""
    if len(instances) == 1:
        return instances[0]
    boxes = [i.box for i in instances]
    if all(i.rle is None for i in instances):
        x0, y0, x1, y1 = zip(*boxes)
        box = min(x0), min(y0), max(x1), max(y1)
        return Instance(instances[0].defect, box, sum(i.area for i in instances))
    sized = np.asarray([(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes], float)
    drawn = coco_mask.frPyObjects(sized, size[1], size[0])
    rles = [whole if i.rle is None else i.rle for i, whole in zip(instances, drawn)]
    return rle_instance(instances[0].defect, coco_mask.merge(rles))


def annotated_image(
    image: str, size: Size, entries: Iterable[tuple[str, T]], read: Callable[[T], Instance]
) -> AnnotatedImage:
    """An image with what `read` makes of each entry; where it raises `Wrong`, a problem at the entry's place."""
    instances: list[Instance] = []
    problems: list[Problem] = []
    for place, entry in entries:
        try:
            instances.append(read(entry))
        except Wrong as error:
            problems.append(Problem(place, str(error)))
    return AnnotatedImage(image, size, defects_of(instances, size), tuple(problems))
