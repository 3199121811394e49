"""Boxes and masks of annotated defects, as pixels: what the formats share.

Coordinates are edges of pixels: pixel 0 reaches from 0 to 1. Masks are kept as COCO's run lengths, by COCO's own
library (pycocotools). Not covered: outlines (`polygons`), run lengths in files (`runs`), reading files.
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
from components.crop.formats.reading import Wrong, noted
from components.crop.window import Box

T = TypeVar("T")
Size = tuple[int, int]  #: width and height
Rle = dict[str, Any]  #: pycocotools' compressed run lengths: {"size": [height, width], "counts": bytes}

# How far outside the image, in pixels, a coordinate is taken for rounding and clipped.
SLACK = 1.0
# Pixels that are encoded at once, and the runs of those that are set, down the columns, that a mask has at most.
_AT_ONCE, _MOST_RUNS = 1 << 22, 1_000_000


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
        return coco_mask.decode({"size": [self.size[1], self.size[0]], "counts": self.counts}).view(bool)

    def memory(self) -> int:
        return self.size[0] * self.size[1]


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
    low = [edge for edge in edges if edge < -SLACK]
    if low or edges[2] > size[0] + SLACK or edges[3] > size[1] + SLACK:
        raise Wrong(
            f"box {said} (left, top, right, bottom) leaves the image, which is {size[0]} × {size[1]} pixels; "
            "correct or remove it"
        )
    x0, x1 = span(edges[0], edges[2], size[0])
    y0, y1 = span(edges[1], edges[3], size[1])
    return x0, y0, x1, y1


def span(low: float, high: float, extent: int) -> tuple[int, int]:
    """The first pixel and the one after the last between two edges in an image of `extent`; one pixel at least."""
    first, last = (min(max(math.floor(edge + 0.5), 0), extent) for edge in (low, high))
    if first < last:
        return first, last
    first = min(max(math.floor(low), 0), extent - 1)
    return first, first + 1


def mask_instance(defect: str, pixels: np.ndarray, corner: tuple[int, int], size: Size) -> Instance:
    """A defect of which the pixels are known: boolean, those right of and below `corner` (x, y) of the image.

    Raises:
        Wrong: when no pixel is set, or when it is noise.
    """
    return rle_instance(defect, encoded(pixels, corner, size))


def encoded(pixels: np.ndarray, corner: tuple[int, int], size: Size) -> Rle:
    """The run lengths of pixels, as for `mask_instance`. COCO's own encoder takes five bytes a pixel of the image.

    Raises:
        Wrong: when it is noise.
    """
    columns = max(1, _AT_ONCE // max(1, pixels.shape[0]))
    found, runs = [], 0
    for left in range(0, pixels.shape[1], columns):
        part = pixels[:, left : left + columns].T
        padded = np.zeros((len(part), part.shape[1] + 2), np.int8)
        padded[:, 1:-1] = part
        steps = np.diff(padded, axis=1)
        (of, first), last = np.nonzero(steps == 1), np.nonzero(steps == -1)[1]
        start = (of + left + corner[0]) * size[1] + corner[1]
        found.append(np.stack([start + first, start + last]))
        runs += len(first)
        if runs > _MOST_RUNS:
            raise Wrong(f"its mask is noise, of more than {_MOST_RUNS:,} runs of pixels; smooth it or remove it")
    starts, ends = np.concatenate(found, axis=1) if found else np.zeros((2, 0), int)
    # A run to the bottom of one column and one from the top of the next are one.
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.append(True, apart)[: len(starts)]], ends[np.append(apart, True)[: len(ends)]]
    whole = size[0] * size[1]
    edges = [0, *np.stack([starts, ends], 1).ravel().tolist()]
    counts = np.diff(edges if edges[-1] == whole else [*edges, whole]).tolist()
    return coco_mask.frPyObjects({"size": [size[1], size[0]], "counts": counts}, size[1], size[0])


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
            if not noted(problems, Problem(place, str(error))):
                break
    return AnnotatedImage(image, size, defects_of(instances, size), tuple(problems))
