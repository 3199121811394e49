"""COCO's object annotations (cocodataset.org, "Data format"): JSON files of images, categories and annotations.

Boxes, polygons and run lengths, plain and compressed. Where there is a segmentation, the box is that of its pixels.
``iscrowd`` annotations are read like the others: tools write painted masks of single objects that way. Not covered:
key points, captions, panoptic files and detectors' results.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.crop.annotations import Annotated, AnnotatedImage, Format, Found, Problem
from components.crop.formats.locating import Images
from components.crop.formats.polygons import polygon_instance
from components.crop.formats.reading import Wrong, class_name, head, noted, number, other_size, read_json, shown
from components.crop.formats.runs import counts_instance, expanded_counts
from components.crop.formats.shapes import (
    Instance,
    Size,
    annotated_image,
    box_instance,
)
from components.crop.images import displayed_size

_SIGNS = re.compile(r'"(images|annotations|categories)"\s*:')
_RESULTS = re.compile(r'\[\s*\{[^{}]*"image_id"\s*:')


@dataclass(frozen=True)
class Entry:
    """One annotation, before its image's size is known."""

    place: str
    defect: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Entries:
    """What all files say about one image."""

    files: set[str] = field(default_factory=set)
    sizes: list[tuple[str, Size]] = field(default_factory=list)  #: with the place that says so
    entries: list[Entry] = field(default_factory=list)


class Coco(Format):
    name = "coco"
    layout = """\
annotations/instances_train.json        COCO: images, categories, annotations (as CVAT and others export)
images/a.png                            the images, in any folder, by their file_name"""

    def find(self, dataset: str, root: Path, files: Sequence[str]) -> Found:
        images = Images(files)
        entries: dict[str, Entries] = defaultdict(Entries)
        problems: list[Problem] = []
        read = 0
        for path in (f for f in files if f.lower().endswith(".json")):
            start = head(root / path)
            if _RESULTS.match(start):
                problems.append(Problem(path, "a list of detections without its images; give the annotation file"))
            elif _SIGNS.search(start):
                read += 1
                try:
                    _collect(path, read_json(root / path), images, entries, problems)
                except Wrong as error:
                    problems.append(Problem(path, str(error)))
        items = sorted(Annotated(image, tuple(sorted(of.files)), of) for image, of in entries.items())
        summary = f"{len(items)} images in {read} JSON files"
        if unused := len(images.paths) - len(items):
            summary += f"; {unused} images that they do not list are not used"
        return Found(items, sorted(problems), summary)

    def read(self, dataset: str, root: Path, item: Annotated, join: int) -> AnnotatedImage:
        assert isinstance(item.content, Entries)
        size = displayed_size(root / item.image)
        wrong = [
            Problem(place, other_size(said, item.image, size)) for place, said in item.content.sizes if said != size
        ]
        if wrong:
            return AnnotatedImage(item.image, size, (), tuple(wrong))
        entries = ((entry.place, entry) for entry in item.content.entries)
        return annotated_image(item.image, size, entries, lambda entry: _instance(entry, size))


def _collect(path: str, data: Any, images: Images, entries: dict[str, Entries], problems: list[Problem]) -> None:
    """Add what one file says to `entries`, and what is wrong with it to `problems`."""
    lists = {key: _list(data, key) for key in ("images", "categories", "annotations")}
    # None: a row that is reported as wrong; what refers to it is not reported again.
    categories: dict[Hashable, str | None] = {}
    located: dict[Hashable, str | None] = {}
    seen: set[Hashable] = set()
    for key, rows in lists.items():
        for i, row in enumerate(rows):
            place = f"{path}:{key}[{i}]"
            try:
                if not isinstance(row, dict):
                    raise Wrong(f"is {shown(row)} instead of an object in braces; export it again")
                if key == "images":
                    _add_image(place, row, path, images, located, entries)
                elif key == "categories":
                    identity = _id(row, "id")
                    _add(categories, identity)
                    categories[identity] = class_name(_name(row, "name"))
                else:
                    _add_annotation(place, row, located, categories, seen, entries)
            except Wrong as error:
                if not noted(problems, Problem(place, str(error))):
                    return


def _add_image(
    place: str,
    row: dict[str, Any],
    path: str,
    images: Images,
    located: dict[Hashable, str | None],
    entries: dict[str, Entries],
) -> None:
    identity = _id(row, "id")
    _add(located, identity)
    image = images.locate(_name(row, "file_name"), path)
    located[identity] = image
    entries[image].files.add(path)
    if "width" in row or "height" in row:
        size = int(number(row.get("width"), "width")), int(number(row.get("height"), "height"))
        entries[image].sizes.append((place, size))


def _add_annotation(
    place: str,
    row: dict[str, Any],
    located: dict[Hashable, str | None],
    categories: dict[Hashable, str | None],
    seen: set[Hashable],
    entries: dict[str, Entries],
) -> None:
    image_id, category = _id(row, "image_id"), _id(row, "category_id")
    if "id" in row:
        if (identity := _id(row, "id")) in seen:
            raise Wrong(f"id {shown(identity)} is taken by another annotation; give each its own")
        seen.add(identity)
    if image_id not in located:
        raise Wrong(f"image_id {shown(image_id)} is not among the images; add the image or remove the annotation")
    if category not in categories:
        known = ", ".join(f"{key} {name}" for key, name in list(categories.items())[:8]) or "none"
        raise Wrong(f"category_id {shown(category)} is not among the categories; known: {known}")
    image, defect = located[image_id], categories[category]
    if image is not None and defect is not None:
        fields: dict[str, Any] = {key: row[key] for key in ("bbox", "segmentation") if key in row}
        entries[image].entries.append(Entry(place, defect, fields))


def _instance(entry: Entry, size: Size) -> Instance:
    fields = entry.fields
    edges = None
    if fields.get("bbox"):
        bbox = fields["bbox"]
        if not isinstance(bbox, list) or len(bbox) != 4:
            raise Wrong(f"bbox is {shown(bbox)} instead of [x, y, width, height]; correct it")
        x, y, width, height = (number(value, "a number of bbox") for value in bbox)
        if width <= 0 or height <= 0:
            raise Wrong(f"bbox has the width {width:g} and the height {height:g}; both must be above 0")
        edges = x, y, x + width, y + height
    segmentation = fields.get("segmentation")
    if not segmentation and edges is None:
        raise Wrong("neither bbox nor segmentation; add one or remove the annotation")
    if not segmentation:
        return box_instance(entry.defect, edges or (), size)
    if isinstance(segmentation, dict):
        return counts_instance(entry.defect, _counts(segmentation, size), size)
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise Wrong("segmentation is neither a list of polygons [[x, y, …], …] nor run lengths; export it again")
    polygons = [[number(value, "a number of segmentation") for value in polygon] for polygon in segmentation]
    return polygon_instance(entry.defect, polygons, size)


def _counts(segmentation: dict[str, Any], size: Size) -> list[int]:
    said, counts = segmentation.get("size"), segmentation.get("counts")
    if said != [size[1], size[0]]:
        raise Wrong(
            f"run lengths for the size {shown(said)} (height, width), but the image has [{size[1]}, {size[0]}]; "
            "export it again"
        )
    if isinstance(counts, str):
        return expanded_counts(counts)
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise Wrong(
            f"run lengths' counts are {shown(counts)}, neither text nor a list of whole numbers; export it again"
        )
    return counts


def _list(data: Any, key: str) -> list[Any]:
    if not isinstance(data, dict) or key not in data:
        raise Wrong(f"no {key!r}; COCO's object annotations have images, categories and annotations; export it again")
    if not isinstance(data[key], list):
        raise Wrong(f"{key!r} is {shown(data[key])} instead of a list; export it again")
    return data[key]


def _id(row: dict[str, Any], key: str) -> Hashable:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float | str) or value != value:
        raise Wrong(f"{key} is {'missing' if key not in row else shown(value)}; give it a number")
    return value


def _name(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Wrong(f"{key} is {'missing' if key not in row else shown(value)}; give it a text")
    return value.strip()


def _add(known: dict[Hashable, str | None], identity: Hashable) -> None:
    if identity in known:
        raise Wrong(f"id {shown(identity)} is taken by another; give each its own")
    known[identity] = None
