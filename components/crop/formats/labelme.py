"""LabelMe's JSON files (github.com/wkentaro/labelme), one an image: polygons, rectangles, circles and masks.

Shapes of one class and ``group_id`` are one defect. Points, lines and line strips have no area and are reported. The
image in ``imageData`` is not read: it may be another than the file's. Not covered: ``flags``, and other tools' shapes.
"""

from __future__ import annotations

import base64
import binascii
import io
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from components import decoding
from components.crop.annotations import Annotated, AnnotatedImage, Format, Found, Problem
from components.crop.budget import PIXELS
from components.crop.formats.locating import Images
from components.crop.formats.polygons import polygon_instance
from components.crop.formats.reading import (
    MOST_VALUES_OF_AN_IMAGE,
    Wrong,
    class_name,
    head,
    noted,
    number,
    other_size,
    read_json,
    shown,
)
from components.crop.formats.shapes import (
    Instance,
    Size,
    box_instance,
    defects_of,
    mask_instance,
    united,
)
from components.crop.images import Picture, displayed_size

_SIGNS = re.compile(r'"(shapes|imagePath|imageData|imageHeight)"\s*:')


class LabelMe(Format):
    name = "labelme"
    layout = """\
a.jpg + a.json                          LabelMe: an image, and the shapes drawn on it"""

    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        images = Images(files)
        beside: dict[str, list[str]] = defaultdict(list)
        for image in images.paths:
            beside[str(PurePosixPath(image).with_suffix(".json"))].append(image)
        of: dict[str, str] = {}
        problems: list[Problem] = []
        for path in (f for f in files if f.lower().endswith(".json")):
            if not _SIGNS.search(head(root / path)):
                if path in beside:
                    problems.append(Problem(path, "no LabelMe annotation, or damaged; save it again or remove it"))
                continue
            try:
                image = beside[path][0] if len(beside[path]) == 1 else _named_image(root, path, images)
            except Wrong as error:
                problems.append(Problem(path, str(error)))
                continue
            if image in of:
                problems.append(Problem(path, f"{of[image]} annotates the same image {image}; keep one"))
            else:
                of[image] = path
        items = sorted(Annotated(image, (path,)) for image, path in of.items())
        summary = f"{len(items)} images with a JSON file each"
        if unused := len(images.paths) - len(items):
            summary += f"; {unused} images without one are not used"
        return Found(items, sorted(problems), summary)

    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        size = displayed_size(root / item.image)
        path = item.annotations[0]
        try:
            shapes = _shapes(read_json(root / path, MOST_VALUES_OF_AN_IMAGE), item.image, size)
        except Wrong as error:
            return AnnotatedImage(item.image, size, (), (Problem(path, str(error)),))
        grouped: dict[object, list[Instance]] = defaultdict(list)
        problems: list[Problem] = []
        for i, shape in enumerate(shapes):
            try:
                instance, group = _instance(shape, size), shape.get("group_id")
                grouped[i if group is None else (instance.defect, str(group))].append(instance)
            except Wrong as error:
                if not noted(problems, Problem(f"{path}:shapes[{i}]", str(error))):
                    break
        instances = [united(group, size) for group in grouped.values()]
        return AnnotatedImage(item.image, size, defects_of(instances, size), tuple(problems))


def _named_image(root: Path, path: str, images: Images) -> str:
    data = read_json(root / path, MOST_VALUES_OF_AN_IMAGE)
    named = data.get("imagePath") if isinstance(data, dict) else None
    if not isinstance(named, str) or not named.strip():
        raise Wrong(f"imagePath is {shown(named)}, which names no image; give it the image's path")
    return images.locate(named, path)


def _shapes(data: Any, image: str, size: Size) -> list[Any]:
    if not isinstance(data, dict) or not isinstance(data.get("shapes"), list):
        raise Wrong("no list of 'shapes'; save it again with LabelMe")
    said = data.get("imageWidth"), data.get("imageHeight")
    if said != (None, None) and said != size:
        raise Wrong(other_size(said, image, size))
    return data["shapes"]


def _instance(shape: Any, size: Size) -> Instance:
    if not isinstance(shape, dict):
        raise Wrong(f"is {shown(shape)} instead of an object in braces; save it again with LabelMe")
    name, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(name, str) or not name.strip():
        raise Wrong(f"label is {shown(name)}; name the class")
    name = class_name(name)
    points = _points(shape.get("points"))
    if kind == "polygon":
        return polygon_instance(name, [[value for point in points for value in point]], size)
    if kind == "rectangle" and len(points) in (2, 4):
        # Dragged from any corner.
        xs, ys = zip(*points)
        return box_instance(name, (min(xs), min(ys), max(xs), max(ys)), size)
    if kind == "circle" and len(points) == 2:
        return _circle(name, points[0], points[1], size)
    if kind == "mask" and len(points) == 2:
        return _mask(name, points[0], shape.get("mask"), size)
    if kind in ("point", "points", "line", "linestrip"):
        raise Wrong(f"a {kind} has no area; draw a polygon around the defect")
    raise Wrong(f"a {shown(kind)} of {len(points)} points; known: polygon, rectangle, circle, mask")


def _points(points: Any) -> list[tuple[float, float]]:
    if not isinstance(points, list) or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise Wrong(f"points is {shown(points)} instead of [[x, y], …]; save it again with LabelMe")
    return [(number(x, "a point's x"), number(y, "a point's y")) for x, y in points]


def _circle(name: str, centre: tuple[float, float], edge: tuple[float, float], size: Size) -> Instance:
    # LabelMe lets circles reach past the image; the part inside counts.
    radius = math.dist(centre, edge)
    (left, right), (top, bottom) = (
        (math.floor(min(extent, max(0, middle - radius))), math.ceil(min(extent, max(0, middle + radius))))
        for middle, extent in zip(centre, size)
    )
    with PIXELS.hold((bottom - top) * (right - left)):
        inside = np.zeros((bottom - top, right - left), bool)
        across = np.arange(left, left + inside.shape[1]) + 0.5 - centre[0]
        # Not powers: those of Python's own numbers raise an error where they are too large.
        with np.errstate(over="ignore"):
            for row, y in zip(inside, np.arange(top, bottom) + 0.5 - centre[1]):
                row[:] = across * across + y * y <= radius * radius
        return mask_instance(name, inside, (left, top), size)


def _mask(name: str, corner: tuple[float, float], encoded: Any, size: Size) -> Instance:
    """A painted mask: a PNG as base64 text, laid with its first pixel at `corner`."""
    try:
        with decoding.opened(io.BytesIO(base64.b64decode(encoded, validate=True)), ("PNG",)) as image:
            x, y = round(corner[0]), round(corner[1])
            if x < 0 or y < 0 or x + image.width > size[0] or y + image.height > size[1]:
                raise Wrong(
                    f"its mask of {image.width} × {image.height} pixels leaves the image, which is {size[0]} × "
                    f"{size[1]} pixels; save it again with LabelMe"
                )
            with PIXELS.hold(decoding.peak(image) + image.width * image.height):
                part = Picture(decoding.decode(image), 1)
                pixels = np.empty((image.height, image.width), bool)
                for top, bottom in part.strips():
                    pixels[top:bottom] = np.asarray(part.part((0, top, part.width, bottom)).convert("L")) > 0
                return mask_instance(name, pixels, (x, y), size)
    except (TypeError, ValueError, binascii.Error, decoding.Undecodable):
        raise Wrong("its mask is no PNG in base64; save it again with LabelMe") from None
